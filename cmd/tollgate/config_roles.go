package main

import (
	"reflect"
	"strings"
)

// settingRoles says which roles read a setting, by the longest prefix of its
// key. What is not here is for every process.
var settingRoles = map[string]roles{
	"store":           {keyManager: true},
	"keys":            {keyManager: true},
	"keys.tag_file":   {keyManager: true, authz: true},
	"keymanager":      {keyManager: true},
	"rpc.address":     {keyManager: true},
	"rpc.servers":     {authz: true, xds: true},
	"rpc.server_name": {authz: true, xds: true},
	"gateway":         {xds: true},
	"gateway.group":   {authz: true, xds: true},
	"gateway.hosts":   {xds: true, keyManager: true},
	"gateway.usage":   {xds: true, keyManager: true},
	"authz":           {authz: true},
	"redis":           {authz: true},
	"xds":             {xds: true},
}

// rolesOf returns who reads a setting.
func rolesOf(key string) roles {
	for prefix := key; prefix != ""; {
		if r, ok := settingRoles[prefix]; ok {
			return r
		}
		i := strings.LastIndexByte(prefix, '.')
		prefix = prefix[:max(i, 0)]
	}
	return allRoles
}

// ineffective refuses what the file sets for a role that does not run in this
// process: it would be silently without effect. What is as it is by default
// does no harm, and the environment may be that of several processes.
func (c *checker) ineffective(cfg *Config, r roles) {
	standard := map[string]any{}
	defaults := defaultConfig()
	eachSetting(&defaults, func(key string, v reflect.Value) { standard[key] = v.Interface() })
	eachSetting(cfg, func(key string, v reflect.Value) {
		if !c.at.fromFile(key) || reflect.DeepEqual(v.Interface(), standard[key]) || v.Kind() == reflect.Slice && v.Len() == 0 {
			return
		}
		switch reads := rolesOf(key); {
		case (key == "rpc.servers" || key == "rpc.server_name") && r.keyManager:
			c.fail(key, "the key manager runs in this process (%s), and no other one is asked", r)
		case !(reads.authz && r.authz || reads.keyManager && r.keyManager || reads.xds && r.xds):
			c.fail(key, "is read by %s, and this process runs %s: it would have no effect", reads, r)
		}
	})
}
