// Package validator implements keymanager.Validator over the store: it reads
// the facts about a credential and lets the one policy judge them.
package validator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token"
)

// Options are what a Validator needs; all of it.
type Options struct {
	Store   store.Validation
	Tags    *token.TagKeys
	Peppers *token.Peppers
	Now     func() time.Time
}

// New returns a keymanager.Validator that reads every verdict from the store.
// Caches are put before it by whoever assembles the parts.
func New(o Options) (keymanager.Validator, error) {
	if o.Store == nil || o.Tags == nil || o.Peppers == nil || o.Now == nil {
		return nil, errors.New("validator: Store, Tags, Peppers and Now are required")
	}
	return &validator{o}, nil
}

type validator struct{ o Options }

// unrecognised is the verdict on what is not ours. Its Head is of no epoch: it
// is older than every event.
var unrecognised = &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential}

// Validate implements keymanager.Validator. Whatever does not carry our tag is
// refused without a look at the store.
func (v *validator) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	if !v.o.Tags.Check(q.Credential.Kind, q.Credential.Value) {
		return unrecognised, nil
	}
	facts, head, err := v.facts(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("validator: reading facts: %w", err)
	}
	if facts == nil {
		return &keymanager.Verdict{
			Reason: keymanager.ReasonNoSuchCredential,
			Kind:   q.Credential.Kind,
			Head:   head,
		}, nil
	}
	grant := facts.Grant // a copy, so that the rest of the facts can go
	return &keymanager.Verdict{
		Reason:    facts.Standing().Reason(v.o.Now()),
		Kind:      q.Credential.Kind,
		TokenID:   facts.TokenID,
		IssuedAt:  facts.IssuedAt,
		ExpiresAt: facts.ExpiresAt,
		Head:      facts.Head,
		Grant:     &grant,
	}, nil
}

// facts looks under the digest of the current pepper, then of the previous
// one. When nothing is found the head is that of the first look: the older one
// is the safe one.
func (v *validator) facts(ctx context.Context, q keymanager.Query) (*store.Facts, keymanager.Position, error) {
	read := v.o.Store.TokenFacts
	if q.Credential.Kind == keymanager.APIKeyCredential {
		read = v.o.Store.APIKeyFacts
	}
	var first keymanager.Position
	for digest := range v.o.Peppers.Digests(q.Credential.Value) {
		facts, head, err := read(ctx, digest, q.API)
		if first == (keymanager.Position{}) {
			first = head
		}
		if err != nil || facts != nil {
			return facts, first, err
		}
	}
	return nil, first, nil
}
