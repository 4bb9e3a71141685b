//go:build clients

package sdk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a program in a folder and returns what it printed.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// copied copies a client into a folder of the test, so that what is built there
// leaves no trace in the tree.
func copied(t *testing.T, client string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), client)
	if err := os.CopyFS(dir, os.DirFS("../../sdk/"+client)); err != nil {
		t.Fatal(err)
	}
	for _, built := range []string{"node_modules", "dist"} {
		if err := os.RemoveAll(filepath.Join(dir, built)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// project is a Node project with both packages installed as a user does it: from
// the files that npm pack makes.
func project(t *testing.T) string {
	t.Helper()
	source := copied(t, "javascript")
	run(t, source, nil, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
	dir := t.TempDir()
	// npm gives both packages one file name: a scope becomes a prefix.
	packed := []string{packedIn(t, source, filepath.Join(dir, "plain")), packedIn(t, filepath.Join(source, "scoped"), filepath.Join(dir, "scoped"))}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"name":"app","private":true,"type":"module"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "npm", append([]string{"install", "--no-audit", "--no-fund", "--loglevel=error"}, packed...)...)
	return dir
}

// packedIn packs one package into a folder and returns the file.
func packedIn(t *testing.T, source, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, source, nil, "npm", "pack", "--pack-destination", dir, "--loglevel=error")
	packed, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(packed) != 1 {
		t.Fatalf("npm pack made %v, %v", packed, err)
	}
	return packed[0]
}

// wheel is a Python environment with the client installed from the wheel that is
// built from it; it returns the interpreter.
func wheel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, nil, "python3", "-m", "venv", "env")
	python := filepath.Join(dir, "env", "bin", "python")
	run(t, dir, nil, python, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--wheel-dir", dir, copied(t, "python"))
	built, err := filepath.Glob(filepath.Join(dir, "tensorone-*.whl"))
	if err != nil || len(built) != 1 {
		t.Fatalf("pip wheel made %v, %v", built, err)
	}
	run(t, dir, nil, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", built[0])
	return python
}

func TestJavaScriptClient(t *testing.T) {
	source := copied(t, "javascript")
	run(t, source, nil, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
	run(t, source, nil, "npm", "test")
}

func TestJavaScriptPackages(t *testing.T) {
	dir := project(t)
	const program = `
import makeClient, { TensorOneClient, verifyWebhook } from "tensorone-sdk";
import again, { TensorOneClient as Same } from "@tensorone/sdk";
if (makeClient !== again || TensorOneClient !== Same || typeof verifyWebhook !== "function") process.exit(1);
`
	if err := os.WriteFile(filepath.Join(dir, "app.mjs"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "node", "app.mjs")
	if deps := run(t, dir, nil, "npm", "ls", "--all", "--parseable"); strings.Count(strings.TrimSpace(deps), "\n") != 2 {
		t.Errorf("the packages bring dependencies:\n%s", deps)
	}
}

func TestPythonClient(t *testing.T) {
	source := copied(t, "python")
	run(t, filepath.Join(source, "tests"), []string{"PYTHONPATH=" + filepath.Join(source, "src")}, "python3", "-W", "error::ResourceWarning", "-m", "unittest")
}

func TestPythonPackage(t *testing.T) {
	python := wheel(t)
	out := run(t, t.TempDir(), nil, python, "-c", "import tensorone, importlib.metadata as m, os; print(os.path.exists(os.path.join(os.path.dirname(tensorone.__file__), 'py.typed')), m.requires('tensorone'))")
	if strings.TrimSpace(out) != "True None" {
		t.Errorf("typed and requirements: %s", out)
	}
	run(t, filepath.Dir(python), nil, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "mypy")
	source := copied(t, "python")
	run(t, source, nil, python, "-m", "mypy", "--strict", "src/tensorone")
}
