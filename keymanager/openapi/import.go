package openapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tollgate/keymanager"
)

// Options of New. The zero value is usable.
type Options struct {
	// MaxBytes is the size of a document; 0 = 2 MiB.
	MaxBytes int
	// Timeout is how long an import may take; 0 = 5 s.
	Timeout time.Duration
	// Concurrent is how many imports may run at once; 0 = 2. One that outlived
	// its timeout counts until it has ended.
	Concurrent int
}

// Importer imports descriptions of APIs. It is safe for concurrent use.
type Importer struct {
	opts    Options
	running chan struct{}
}

// New returns an Importer.
func New(o Options) *Importer {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 2 << 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Concurrent <= 0 {
		o.Concurrent = 2
	}
	return &Importer{opts: o, running: make(chan struct{}, o.Concurrent)}
}

// As says what an API shall be called instead of what its description says; the
// empty string leaves that to the description.
type As struct {
	Name    string
	Context string
	Version string
}

// Result is an imported API.
type Result struct {
	// API is valid (keymanager.ValidateAPI) and in the state CREATED. It has no
	// id, organization, hosts, labels and subscription tiers: they are the
	// caller's to set.
	API keymanager.API
	// Warnings say what of the document was not taken over, with JSON pointers
	// into it.
	Warnings []keymanager.FieldError
}

// Import reads a document. A document that cannot be used is a KindInvalid
// error, with JSON pointers into the document; too many imports at once, or ctx
// ending, is KindUnavailable.
func (im *Importer) Import(ctx context.Context, document []byte, as As) (*Result, error) {
	if len(document) > im.opts.MaxBytes {
		return nil, invalid("", "the document has %d bytes; at most %d are allowed", len(document), im.opts.MaxBytes)
	}
	if err := ctx.Err(); err != nil {
		return nil, givenUp(err)
	}
	ctx, cancel := context.WithTimeout(ctx, im.opts.Timeout)
	defer cancel()
	select {
	case im.running <- struct{}{}:
	case <-ctx.Done():
		return nil, &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: "too many imports at once", Err: ctx.Err()}
	}
	type outcome struct {
		result *Result
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-im.running }()
		result, err := contained(func() (*Result, error) { return read(ctx, document, as) })
		done <- outcome{result, err}
	}()
	select {
	case out := <-done:
		return out.result, out.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, invalid("", "the document could not be read within %v", im.opts.Timeout)
		}
		return nil, givenUp(ctx.Err())
	}
}

func givenUp(cause error) error {
	return &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: "the import was given up", Err: cause}
}

// contained turns a panic of the libraries into a refusal of the document.
func contained(f func() (*Result, error)) (result *Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			result, err = nil, invalid("", "the document cannot be read (%.200s)", fmt.Sprint(r))
		}
	}()
	return f()
}

// read does the work: text to tree, tree to document, document to API.
func read(ctx context.Context, document []byte, as As) (*Result, error) {
	tree, err := parse(ctx, document)
	if err != nil {
		return nil, err
	}
	doc, err := load(ctx, tree)
	if err != nil {
		return nil, err
	}
	return translate(doc, as)
}

// invalid returns a KindInvalid error about one place in the document.
func invalid(pointer, format string, args ...any) error {
	return keymanager.Invalid("the description cannot be imported",
		[]keymanager.FieldError{{Path: pointer, Detail: fmt.Sprintf(format, args...)}})
}
