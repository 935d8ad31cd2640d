package publish

import (
	"context"
	"time"

	"tollgate/keymanager"
)

// Limits of the difference between the clock of this process and that of the
// database.
const (
	skewAlarm = 2 * time.Second
	// skewStop is from when on nothing is removed because of its age.
	skewStop = time.Minute
)

// clocked is a database with a clock.
type clocked interface {
	DatabaseTime(ctx context.Context) (time.Time, error)
}

// skew returns how far the clock of the database is ahead of this process's. It
// errs on the side of none: half of the time that asking takes is not known.
func skew(ctx context.Context, db clocked, now func() time.Time) (time.Duration, error) {
	before := now()
	at, err := db.DatabaseTime(ctx)
	if err != nil {
		return 0, err
	}
	after := now()
	switch {
	case at.Before(before.Truncate(time.Millisecond)):
		return at.Sub(before), nil
	case at.After(after):
		return at.Sub(after), nil
	}
	return 0, nil
}

// tooFarApart is why something is not removed.
func tooFarApart(d time.Duration) error {
	return keymanager.Errorf(keymanager.KindUnavailable,
		"the clock of the database is %s ahead of this machine's (negative: behind): set the wrong one right", d.Round(time.Second))
}
