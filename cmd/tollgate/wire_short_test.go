//go:build short

package main

import "testing"

// otherStores are the backends that need a server: none here.
var otherStores = map[string]func(*testing.T) StoreConfig{}
