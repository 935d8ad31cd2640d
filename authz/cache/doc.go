// Package cache holds the decorators of keymanager.Validator that stand between
// authz and the key manager: LRU remembers verdicts, Flight makes one call of
// many at the same time, Redis remembers them for several gateways, and Cap
// bounds the calls under way. Each takes the next Validator and is one; they are
// joined in one place, by whoever builds the process:
//
//	LRU → Flight → Redis (where there is one) → Cap → key manager
//
// What is remembered are verdicts: facts and the head of the log read before
// them, never a decision. Errors are never remembered. Nothing is ever deleted
// because of a revocation: package revoked is asked after every cache, and a
// Query says in Since how old a verdict may be.
package cache
