package main

import (
	"fmt"
	"strings"
)

// roles are the parts that a process runs.
type roles struct{ authz, keyManager, xds bool }

// allRoles is one process for everything.
var allRoles = roles{authz: true, keyManager: true, xds: true}

// roleNames are the arguments of serve and check-config.
var roleNames = []string{"authz", "keymanager", "xds"}

// parseRoles reads the roles of a command line; none named = all.
func parseRoles(names []string) (roles, error) {
	if len(names) == 0 {
		return allRoles, nil
	}
	var r roles
	for _, name := range names {
		part := r.named(name)
		if part == nil {
			return roles{}, fmt.Errorf("%q is not a role: authz, keymanager or xds, any of them; none named = all three", name)
		}
		if *part {
			return roles{}, fmt.Errorf("the role %s is there twice", name)
		}
		*part = true
	}
	return r, nil
}

func (r *roles) named(name string) *bool {
	switch name {
	case "authz":
		return &r.authz
	case "keymanager":
		return &r.keyManager
	case "xds":
		return &r.xds
	}
	return nil
}

// remote reports whether the key managers are other processes.
func (r roles) remote() bool { return !r.keyManager }

// stateless reports whether the process keeps nothing: another one with the
// same state folder does not disturb it.
func (r roles) stateless() bool { return !r.keyManager }

// String names the roles, for messages.
func (r roles) String() string {
	var names []string
	for _, name := range roleNames {
		if *r.named(name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
