package store

import "fmt"

// InThePast is the error of a database whose log was at an event, and ends at an
// earlier one in the same epoch: it was restored from a backup, or has lost what
// it had answered. Its revocations must not be taken for all that there are.
func InThePast(was, is uint64) error {
	return fmt.Errorf("the database is behind what it was: its log ends at event %d, and was at %d. If it was restored from a backup, "+
		"or has lost transactions in a fail-over, run \"tollgate migrate restored\" before a key manager starts on it: "+
		"what was revoked since would be honoured again", is, was)
}
