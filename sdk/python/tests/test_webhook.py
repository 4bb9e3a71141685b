import base64
import hashlib
import hmac
import time
import unittest

from tensorone import SignatureError, verify_webhook

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four.").decode()
BODY = '{"jobId":"job_1","status":"completed","tags":{"user":"ü"}}'.encode()


def standard(timestamp=None):
    timestamp = str(timestamp or int(time.time()))
    signature = hmac.new(b"a secret of twenty-four.", f"msg_1.{timestamp}.".encode() + BODY, hashlib.sha256).digest()
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": timestamp, "Webhook-Signature": "v1,AAAA v1," + base64.b64encode(signature).decode()}


class Verify(unittest.TestCase):
    def test_the_standard_headers_verify(self):
        self.assertEqual(verify_webhook(BODY, standard(), SECRET)["tags"]["user"], "ü")
        self.assertEqual(verify_webhook(BODY.decode(), standard(), SECRET)["jobId"], "job_1")

    def test_the_single_header_verifies(self):
        headers = {"X-Webhook-Signature": "sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()}
        self.assertEqual(verify_webhook(BODY, headers, SECRET)["status"], "completed")
        with self.assertRaises(SignatureError):
            verify_webhook(BODY + b" ", headers, SECRET)

    def test_what_does_not_fit_is_refused(self):
        for body, headers, secret in [
            (BODY + b" ", standard(), SECRET),
            (BODY, standard(), "whsec_" + base64.b64encode(b"another one of 24 bytes.").decode()),
            (BODY, standard(1_600_000_000), SECRET),
            (BODY, {**standard(), "Webhook-Timestamp": "soon"}, SECRET),
            (BODY, {}, SECRET),
        ]:
            with self.assertRaises(SignatureError):
                verify_webhook(body, headers, secret)


if __name__ == "__main__":
    unittest.main()
