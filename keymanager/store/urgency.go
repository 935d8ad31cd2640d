package store

import "context"

// Urgency says who goes first when the connections to the database do not
// suffice for all.
type Urgency int

// The urgencies. What revokes, what tells gateways of it, and what says whether
// a token lives must not wait behind the issuing of tokens; lists can.
const (
	UrgencyPatient Urgency = -1 // lists, clean-up
	UrgencyNormal  Urgency = 0  // issuing tokens, validation, changes
	UrgencyUrgent  Urgency = 1  // revocation, introspection
	// UrgencyVital is what a key manager does by itself for all gateways: it
	// reads the log, and exchanges reports. Nobody can ask for more of it.
	UrgencyVital Urgency = 2
)

type urgencyKey struct{}

// Urgent marks what is done in ctx as urgent.
func Urgent(ctx context.Context) context.Context {
	return context.WithValue(ctx, urgencyKey{}, UrgencyUrgent)
}

// Normal takes back what Urgent said.
func Normal(ctx context.Context) context.Context {
	return context.WithValue(ctx, urgencyKey{}, UrgencyNormal)
}

// Vital marks what is done in ctx as vital.
func Vital(ctx context.Context) context.Context {
	return context.WithValue(ctx, urgencyKey{}, UrgencyVital)
}

// Patient marks what is done in ctx as patient.
func Patient(ctx context.Context) context.Context {
	return context.WithValue(ctx, urgencyKey{}, UrgencyPatient)
}

// UrgencyOf returns how urgent what is done in ctx is.
func UrgencyOf(ctx context.Context) Urgency {
	u, _ := ctx.Value(urgencyKey{}).(Urgency)
	return u
}
