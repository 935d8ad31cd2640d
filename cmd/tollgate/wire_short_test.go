//go:build short

package main

import "testing"

// otherStores are the backends that need a server: none here.
var otherStores = map[string]func(*testing.T) StoreConfig{}

// otherCaches are those that need a server: none here.
var otherCaches = map[string]func(*testing.T) RedisConfig{}
