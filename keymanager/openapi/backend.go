package openapi

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"tollgate/keymanager"
)

// advanced reads advanceEndpointConfig of an endpoint extension: time-out,
// retries and circuit breakers. They hold for production and sandbox alike: what
// is beside them (the sandbox, when there is a production) can say nothing else.
func (d *draft) advanced(endpoints extensions, beside bool) {
	c, ok := endpoints.object("advanceEndpointConfig")
	if !ok {
		return
	}
	c.others("timeoutInMillis", "retryConfig", "circuitBreakers")
	a := keymanager.API{Timeout: keymanager.DefaultTimeout}
	if ms, ok := c.number("timeoutInMillis", 60*60*1000); ok {
		a.Timeout = time.Duration(ms) * time.Millisecond
	}
	if r, ok := c.object("retryConfig"); ok {
		r.others("count", "statusCodes")
		count, _ := r.number("count", 5)
		if count > 0 {
			a.Backend.Retry = &keymanager.Retry{Attempts: count, On: r.statuses("statusCodes")}
		}
	}
	if b, ok := c.object("circuitBreakers"); ok {
		b.others("maxConnections", "maxPendingRequests", "maxRequests", "maxRetries")
		l := &keymanager.BackendLimits{}
		l.Connections, _ = b.number("maxConnections", 65535)
		l.Pending, _ = b.number("maxPendingRequests", 65535)
		l.Requests, _ = b.number("maxRequests", 65535)
		l.Retries, _ = b.number("maxRetries", 65535)
		a.Backend.Limits = l
	}
	if beside {
		if a.Timeout != d.api.Timeout || !reflect.DeepEqual(a.Backend, d.api.Backend) {
			d.warn(c.at, "is not taken over: what production has holds for the sandbox too")
		}
		return
	}
	d.origin["/backend"], d.origin["/timeout"] = c.at, c.at+"/timeoutInMillis"
	d.api.Timeout, d.api.Backend = a.Timeout, a.Backend
}

// number reads a whole number from 1 to most.
func (e extensions) number(key string, most int) (int, bool) {
	v, ok := e.values[key]
	if !ok {
		return 0, false
	}
	n, ok := v.(float64)
	if !ok || n < 1 || n > float64(most) || n != math.Trunc(n) {
		e.wrong(key, fmt.Sprintf("a whole number from 1 to %d", most))
		return 0, false
	}
	return int(n), true
}

// statuses reads the statuses of a retry, besides which what has not reached a
// back end is sent again, and leaves out those that are never retried here.
func (e extensions) statuses(key string) []keymanager.RetryCondition {
	out := keymanager.SafeRetries()
	list, isList := e.values[key].([]any)
	if e.values[key] != nil && !isList {
		e.wrong(key, "a list of statuses")
	}
	for i, v := range list {
		n, _ := v.(float64)
		c := keymanager.RetryCondition(strconv.Itoa(int(n)))
		switch {
		case c != keymanager.Retry502 && c != keymanager.Retry503 && c != keymanager.Retry504:
			e.d.warn(fmt.Sprintf("%s/%s/%d", e.at, key, i), "is not taken over: only 502, 503 and 504 are retried")
		case !slices.Contains(out, c):
			out = append(out, c)
		}
	}
	return out
}
