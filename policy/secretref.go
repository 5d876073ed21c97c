package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// maxSecret bounds a secret, in bytes.
const maxSecret = 64 << 10

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// secret decodes a reference and resolves it. Check, which may be nil, judges the value;
// its error must not repeat it.
func (d *decoder) secret(dst *Secret, check func(string) error) field {
	return func(n ast.Node) {
		text, ok := n.(*ast.StringNode)
		if !ok {
			d.wrongType(n, "a secret must be a reference (env:NAME or file:PATH)")
			return
		}
		ref := text.Value
		if !strings.HasPrefix(ref, "env:") && !strings.HasPrefix(ref, "file:") {
			d.problem(d.at(n), "write env:NAME or file:PATH", "a secret must not stand in the configuration itself")
			return
		}
		value, err := d.resolve(ref)
		if err == nil && check != nil && !d.blind {
			if err = check(value); err != nil {
				err = fmt.Errorf("what %s holds %w", ref, err)
			}
		}
		if err != nil {
			d.problem(d.at(n), "", "%s", err)
			return
		}
		*dst = newSecret(value, ref)
	}
}

// maxArguments bounds the words of a reference to a program.
const maxArguments = 16

// secretOrProgram decodes a reference, or a program that prints the value when it is needed.
// It is looked for now, so that a misspelled path is found before the first call, and not run.
func (d *decoder) secretOrProgram(dst *Secret, check func(string) error) field {
	return func(n ast.Node) {
		text, ok := n.(*ast.StringNode)
		if !ok || !strings.HasPrefix(text.Value, execPrefix) {
			d.secret(dst, check)(n)
			return
		}
		s := Secret{ref: text.Value}
		if err := d.checkProgram(s); err != nil {
			d.problem(d.at(n), `write "exec:/path/to/program arguments"`, "%s", err)
			return
		}
		*dst = s
	}
}

// checkProgram says what is wrong with a program, without repeating its arguments.
func (d *decoder) checkProgram(s Secret) error {
	argv, _ := s.Exec()
	switch {
	case len(argv) == 0 || !filepath.IsAbs(argv[0]):
		return errors.New("after exec: the absolute path of a program is expected")
	case len(argv) > maxArguments:
		return fmt.Errorf("exec: has %d words, at most %d are allowed", len(argv), maxArguments)
	case strings.ContainsFunc(s.ref, unicode.IsControl) || len(s.ref) > maxText:
		return errors.New("exec: has a control character, or is too long")
	case d.blind:
		return nil
	}
	info, err := os.Stat(argv[0])
	if err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("the program %s cannot be run: %s", argv[0], fileReason(err))
	}
	if info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("the program %s cannot be run: it is not executable", argv[0])
	}
	return nil
}

// resolve returns what a reference names. Its errors name the reference only when it is
// well formed, since otherwise it may be the secret itself.
func (d *decoder) resolve(ref string) (string, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		if !envName.MatchString(name) {
			return "", errors.New("after env: the name of an environment variable is expected")
		}
		value := d.getenv(name)
		if value == "" {
			return "", fmt.Errorf("the environment variable of %s is not set or empty", ref)
		}
		if len(value) > maxSecret {
			return "", fmt.Errorf("what %s holds is larger than %s", ref, showSize(maxSecret))
		}
		return value, nil
	}
	path := strings.TrimPrefix(ref, "file:")
	if path == "" {
		return "", errors.New("after file: the path of a file is expected")
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.src.dir(), path)
	}
	return readSecret(ref, path)
}

func readSecret(ref, path string) (string, error) {
	// A pipe or device could block the load for ever.
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("the file of %s cannot be read: %s", ref, fileReason(err))
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("the file of %s cannot be read: %s", ref, fileReason(err))
	}
	defer func() { _ = f.Close() }() // nothing was written
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	value := strings.TrimRight(string(content), "\r\n")
	switch {
	case err != nil:
		return "", fmt.Errorf("the file of %s cannot be read: %s", ref, fileReason(err))
	case len(content) > maxSecret:
		return "", fmt.Errorf("the file of %s is larger than %s", ref, showSize(maxSecret))
	case value == "":
		return "", fmt.Errorf("the file of %s is empty", ref)
	}
	return value, nil
}

// fileReason is the cause without the path, which the reference has named already.
func fileReason(err error) string {
	var path *os.PathError
	switch {
	case err == nil:
		return "not a regular file"
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}
