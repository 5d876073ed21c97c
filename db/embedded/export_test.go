package embedded

import "context"

// WithRoot searches the system directories below dir.
func (c Config) WithRoot(dir string) Config { c.root = dir; return c }

// WithRepository downloads the version from url.
func (c Config) WithRepository(url, version string) Config {
	c.repository, c.download = url, version
	return c
}

// Resolve is the search for the binaries that would run the data in base.
func (c Config) Resolve(ctx context.Context, base string) (dir string, source Source, major int, err error) {
	c, err = c.withDefaults()
	if err != nil {
		return "", "", 0, err
	}
	b, err := c.resolve(ctx, base)
	return b.dir, b.source, b.major, err
}

// ChildPID is the process number of the child.
func (d *Database) ChildPID() int { return d.child.cmd.Process.Pid }
