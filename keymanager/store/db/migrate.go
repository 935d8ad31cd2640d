package db

import (
	"context"
	"path"

	"github.com/pressly/goose/v3"
)

// outOfOrder applies a migration also where one with a higher number has been
// applied before: two lines of work may each have added one.
var outOfOrder = goose.WithAllowOutofOrder(true)

// pending lists the files that goose has not applied.
func pending(ctx context.Context, p *goose.Provider) ([]string, error) {
	status, err := p.Status(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range status {
		if m.State == goose.StatePending {
			names = append(names, path.Base(m.Source.Path))
		}
	}
	return names, nil
}
