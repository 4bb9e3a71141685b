package coordinator

import (
	"fmt"
	"os"
	"strings"

	"windlass/coordinator/blob"
)

// The kinds of blob stores.
const (
	blobDir = "dir" // a folder of each coordinator; copies go to a majority of them
	blobS3  = "s3"  // one bucket for all of them
)

// BlobConfig says where payloads beyond the inline limits are.
type BlobConfig struct {
	Kind string   `yaml:"kind" json:"kind"`         // dir or s3
	Dir  string   `yaml:"dir" json:"dir,omitempty"` // with s3: where a payload is while it is sent
	S3   S3Config `yaml:"s3" json:"s3"`
}

// S3Config names a bucket and the keys for it. Without key files the keys are
// those of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
type S3Config struct {
	Endpoint      string `yaml:"endpoint" json:"endpoint,omitempty"` // host[:port]
	Bucket        string `yaml:"bucket" json:"bucket,omitempty"`
	Region        string `yaml:"region" json:"region,omitempty"`       // empty: as the service says
	Prefix        string `yaml:"prefix" json:"prefix,omitempty"`       // of all object names
	PathStyle     bool   `yaml:"pathStyle" json:"pathStyle,omitempty"` // endpoint/bucket instead of bucket.endpoint
	TLS           bool   `yaml:"tls" json:"tls"`
	AccessKeyFile string `yaml:"accessKeyFile" json:"accessKeyFile,omitempty"`
	SecretKeyFile string `yaml:"secretKeyFile" json:"secretKeyFile,omitempty"`
}

// defaultBlob is what an empty blob section means.
func defaultBlob() BlobConfig { return BlobConfig{Kind: blobDir, S3: S3Config{TLS: true}} }

// mistakes returns every mistake of the section.
func (c *BlobConfig) mistakes() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Kind {
	case blobDir, "":
		if c.S3.Endpoint != "" || c.S3.Bucket != "" {
			bad("blob.s3 is set but blob.kind is dir: set blob.kind to s3, or remove blob.s3")
		}
	case blobS3:
		s := &c.S3
		if s.Endpoint == "" || strings.Contains(s.Endpoint, "/") {
			bad("blob.s3.endpoint is %q: set it to host or host:port without a scheme, for example s3.eu-central-1.amazonaws.com, and blob.s3.tls to false for plain HTTP", s.Endpoint)
		}
		if s.Bucket == "" {
			bad("blob.s3.bucket is empty: set it to a bucket that exists and that all coordinators share")
		}
		if strings.HasPrefix(s.Prefix, "/") {
			bad("blob.s3.prefix is %q: remove the leading slash", s.Prefix)
		}
		if (s.AccessKeyFile == "") != (s.SecretKeyFile == "") {
			bad("of blob.s3.accessKeyFile and blob.s3.secretKeyFile one is empty: set both, or neither for the keys of the environment")
		}
	default:
		bad("blob.kind is %q: set it to dir or s3", c.Kind)
	}
	return errs
}

// open reads the keys.
func (c *S3Config) open() (blob.S3Config, error) {
	out := blob.S3Config{
		Endpoint: c.Endpoint, TLS: c.TLS, Region: c.Region, Bucket: c.Bucket, Prefix: c.Prefix, PathStyle: c.PathStyle,
		AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), Session: os.Getenv("AWS_SESSION_TOKEN"),
	}
	if out.Prefix != "" && !strings.HasSuffix(out.Prefix, "/") {
		out.Prefix += "/"
	}
	if c.AccessKeyFile != "" {
		out.Session = ""
		for _, f := range []struct {
			field, path string
			into        *string
		}{{"accessKeyFile", c.AccessKeyFile, &out.AccessKey}, {"secretKeyFile", c.SecretKeyFile, &out.SecretKey}} {
			text, err := os.ReadFile(f.path)
			if err != nil {
				return out, fmt.Errorf("cannot read blob.s3.%s: %w: set it to a file that this user may read", f.field, err)
			}
			*f.into = strings.TrimSpace(string(text))
		}
	}
	if out.AccessKey == "" || out.SecretKey == "" {
		return out, fmt.Errorf("there are no keys for S3: set blob.s3.accessKeyFile and blob.s3.secretKeyFile to files that hold them, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")
	}
	return out, nil
}
