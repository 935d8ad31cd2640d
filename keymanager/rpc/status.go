package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

// kinds is how a keymanager.Error crosses: the code is for those who know gRPC
// only, the detail says the kind.
var kinds = map[keymanager.Kind]struct {
	code codes.Code
	kind pb.ErrorKind
}{
	keymanager.KindInternal:     {codes.Internal, pb.ErrorKind_ERROR_KIND_INTERNAL},
	keymanager.KindInvalid:      {codes.InvalidArgument, pb.ErrorKind_ERROR_KIND_INVALID},
	keymanager.KindNotFound:     {codes.NotFound, pb.ErrorKind_ERROR_KIND_NOT_FOUND},
	keymanager.KindConflict:     {codes.AlreadyExists, pb.ErrorKind_ERROR_KIND_CONFLICT},
	keymanager.KindPrecondition: {codes.FailedPrecondition, pb.ErrorKind_ERROR_KIND_PRECONDITION},
	keymanager.KindUnavailable:  {codes.Unavailable, pb.ErrorKind_ERROR_KIND_UNAVAILABLE},
	keymanager.KindForbidden:    {codes.PermissionDenied, pb.ErrorKind_ERROR_KIND_FORBIDDEN},
}

// errInternal is all that is said of what is not a keymanager.Error.
var errInternal = keymanager.Errorf(keymanager.KindInternal, "internal error")

// errChooseAgain ends a stream that has served long enough.
var errChooseAgain = keymanager.Errorf(keymanager.KindUnavailable, "this key manager asks to choose one again")

// statusOf returns the status to answer with. Causes do not cross, nor does the
// text of an error that is internal.
func statusOf(err error) error {
	var e *keymanager.Error
	switch {
	case errors.As(err, &e) && e.Kind != keymanager.KindInternal:
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	default:
		e = errInternal
	}
	k, known := kinds[e.Kind]
	if !known {
		e, k = errInternal, kinds[keymanager.KindInternal]
	}
	detail := &pb.ErrorDetail{Kind: k.kind, Detail: text(e.Detail), ChooseAgain: e == errChooseAgain} // the very value
	for _, f := range e.Fields {
		detail.Fields = append(detail.Fields, &pb.FieldError{Path: text(f.Path), Detail: text(f.Detail)})
	}
	st := status.New(k.code, detail.GetDetail())
	if with, err := st.WithDetails(detail); err == nil {
		st = with
	}
	return st.Err()
}

// failure is how a call failed, as far as the choice of a server goes.
type failure struct {
	err error // for the caller
	// transport: no answer of the key manager itself.
	transport bool
	// elsewhere: another key manager may know the answer.
	elsewhere bool
	// chooseAgain: the server is well, and wants to be chosen again.
	chooseAgain bool
}

// failureOf reads the error of a call.
func failureOf(err error) failure {
	st, ok := status.FromError(err)
	if !ok {
		return failure{err: unavailable(err), transport: true, elsewhere: true}
	}
	for _, d := range st.Details() {
		detail, ok := d.(*pb.ErrorDetail)
		if !ok {
			continue
		}
		e := &keymanager.Error{Kind: kindFrom(detail.GetKind()), Detail: detail.GetDetail()}
		for _, f := range detail.GetFields() {
			e.Fields = append(e.Fields, keymanager.FieldError{Path: f.GetPath(), Detail: f.GetDetail()})
		}
		return failure{err: e, elsewhere: e.Kind == keymanager.KindUnavailable, chooseAgain: detail.GetChooseAgain()}
	}
	switch st.Code() {
	case codes.DeadlineExceeded:
		return failure{err: unavailable(fmt.Errorf("%w: %s", context.DeadlineExceeded, st.Message())), transport: true, elsewhere: true}
	case codes.Internal, codes.InvalidArgument:
		return failure{err: keymanager.Errorf(keymanager.KindInternal, "key manager: %s", st.Message())}
	case codes.PermissionDenied, codes.Unauthenticated:
		return failure{err: keymanager.Errorf(keymanager.KindForbidden, "key manager: %s", st.Message())}
	default:
		return failure{err: unavailable(err), transport: true, elsewhere: true}
	}
}

func kindFrom(k pb.ErrorKind) keymanager.Kind {
	for kind, row := range kinds {
		if row.kind == k {
			return kind
		}
	}
	return keymanager.KindInternal
}

func unavailable(err error) error {
	return &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: "no answer from the key manager", Err: err}
}

func notUnderstood(err error) error {
	return &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: "the key manager's message cannot be understood", Err: err}
}
