package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// importRule says what the packages that match Package may import, apart from
// the standard library. A pattern ends in "/..." for the package itself and all
// below it. Test files are free.
type importRule struct {
	Package string
	Ours    []string // of this module, without the module's name
	Outside []string // module or package prefixes
}

// Groups of modules that go together.
var (
	envoyProtos = []string{"github.com/envoyproxy/go-control-plane/envoy", "github.com/cncf/xds/go", "google.golang.org/protobuf", "google.golang.org/genproto"}
	grpcStack   = []string{"google.golang.org/grpc"}
	metrics     = []string{"github.com/prometheus/client_golang"}
	databases   = []string{"github.com/jackc/pgx/v5", "modernc.org/sqlite", "github.com/pressly/goose/v3"}
	syncTools   = []string{"golang.org/x/sync", "golang.org/x/time"}
)

// importRules is who may import whom. The first rule that matches holds.
var importRules = []importRule{
	{Package: "keymanager"},
	{Package: "envoy"},
	{Package: "migrations"},
	{Package: "keymanager/token", Ours: []string{"keymanager"}},
	{Package: "keymanager/token/tokentest", Ours: []string{"keymanager/token"}},
	{Package: "keymanager/keymanagertest/inprocess", Ours: []string{"keymanager", "keymanager/keymanagertest", "keymanager/publish", "keymanager/store/sqlstore", "keymanager/token/tokentest", "keymanager/validator"}},
	{Package: "keymanager/keymanagertest", Ours: []string{"keymanager", "keymanager/store"}},
	{Package: "keymanager/store", Ours: []string{"keymanager"}},
	{Package: "keymanager/store/db", Ours: []string{"migrations"}, Outside: databases},
	{Package: "keymanager/store/sqlstore", Ours: []string{"keymanager", "keymanager/store", "keymanager/store/db", "keymanager/token", "migrations"}, Outside: slices.Concat(databases, syncTools)},
	{Package: "keymanager/store/storetest", Ours: []string{"keymanager", "keymanager/store", "keymanager/store/db"}, Outside: []string{"github.com/google/go-cmp", "github.com/jackc/pgx/v5", "pgregory.net/rapid"}},
	{Package: "keymanager/publish", Ours: []string{"keymanager", "keymanager/store"}, Outside: slices.Concat(metrics, syncTools)},
	{Package: "keymanager/usage", Ours: []string{"keymanager", "keymanager/store", "envoy"}, Outside: slices.Concat(envoyProtos, grpcStack, metrics, syncTools)},
	{Package: "keymanager/oauth", Ours: []string{"keymanager", "keymanager/store", "keymanager/token"}, Outside: slices.Concat(metrics, syncTools)},
	{Package: "keymanager/oauth/oauthtest", Outside: []string{"github.com/google/go-cmp"}},
	{Package: "keymanager/validator", Ours: []string{"keymanager", "keymanager/store", "keymanager/token"}, Outside: metrics},
	{Package: "keymanager/openapi", Ours: []string{"keymanager"}, Outside: []string{"github.com/getkin/kin-openapi", "go.yaml.in/yaml/v3"}},
	{Package: "keymanager/admin/...", Ours: []string{"keymanager", "keymanager/admin/...", "keymanager/store", "keymanager/token", "keymanager/openapi"}, Outside: slices.Concat([]string{"github.com/danielgtaylor/huma/v2"}, metrics, syncTools)},
	{Package: "keymanager/rpc", Ours: []string{"keymanager", "keymanager/rpc/keymanagerpb"}, Outside: slices.Concat(grpcStack, metrics, []string{"google.golang.org/protobuf"})},
	{Package: "keymanager/rpc/keymanagerpb", Outside: slices.Concat(grpcStack, []string{"google.golang.org/protobuf"})},
	{Package: "keymanager/peertest"},
	{Package: "envoy/process", Ours: []string{"envoy"}},
	{Package: "envoy/bootstrap", Ours: []string{"envoy"}, Outside: slices.Concat(envoyProtos, []string{"go.yaml.in/yaml/v3"})},
	{Package: "envoy/envoytest", Ours: []string{"envoy", "envoy/...", "keymanager/peertest"}, Outside: slices.Concat(envoyProtos, grpcStack, []string{"github.com/envoyproxy/go-control-plane", "golang.org/x/net"})},
	{Package: "authz", Ours: []string{"keymanager", "envoy", "authz/..."}, Outside: slices.Concat(envoyProtos, grpcStack, metrics, syncTools)},
	{Package: "authz/cache/redistest", Ours: []string{"keymanager/peertest"}, Outside: []string{"github.com/redis/go-redis/v9"}},
	{Package: "authz/cache", Ours: []string{"keymanager"}, Outside: slices.Concat([]string{"github.com/hashicorp/golang-lru/v2", "github.com/redis/go-redis/v9"}, metrics, syncTools)},
	{Package: "authz/...", Ours: []string{"keymanager", "authz/..."}, Outside: slices.Concat([]string{"github.com/hashicorp/golang-lru/v2"}, metrics, syncTools)},
	{Package: "xds", Ours: []string{"keymanager", "envoy"}, Outside: slices.Concat([]string{"github.com/envoyproxy/go-control-plane"}, envoyProtos, grpcStack, metrics, syncTools)},
	{Package: "cmd/...", Ours: []string{"..."}, Outside: []string{"..."}},
}

// testSupport are packages that only tests, and each other, may import. The
// benchmark is not shipped.
var testSupport = []string{"keymanager/keymanagertest/...", "keymanager/token/tokentest", "keymanager/oauth/oauthtest", "keymanager/peertest", "keymanager/store/storetest", "envoy/envoytest", "authz/cache/redistest", "cmd/tollgate/e2e/...", "cmd/bench"}

// apart are trees that never import each other, not even in tests.
var apart = [][2]string{{"authz/...", "xds/..."}, {"xds/...", "authz/..."}}

const module = "tollgate"

// listedPackage is what "go list -json" says of a package.
type listedPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImports(t *testing.T) {
	packages := listPackages(t)
	for _, violation := range checkImports(packages) {
		t.Error(violation)
	}
	for _, rule := range importRules {
		if !slices.ContainsFunc(packages, func(p listedPackage) bool { return matches(rule.Package, p.ImportPath) }) {
			t.Errorf("the rule for %s matches no package", rule.Package)
		}
	}
}

// A planted violation of each kind is found, and no more than that.
func TestImportsFindsViolations(t *testing.T) {
	for _, tc := range []struct {
		name string
		pkgs []listedPackage
		want string // "" = none
	}{
		{"the standard library", []listedPackage{{ImportPath: "tollgate/keymanager", Imports: []string{"context", "encoding/json"}}}, ""},
		{"a contract and a library", []listedPackage{{ImportPath: "tollgate/keymanager", Imports: []string{"google.golang.org/grpc"}}}, "google.golang.org/grpc"},
		{"a contract and our own", []listedPackage{{ImportPath: "tollgate/envoy", Imports: []string{"tollgate/keymanager"}}}, "tollgate/keymanager"},
		{"authz below the contract", []listedPackage{{ImportPath: "tollgate/authz", Imports: []string{"tollgate/keymanager/store"}}}, "keymanager/store"},
		{"authz and xds", []listedPackage{{ImportPath: "tollgate/xds", Imports: []string{"tollgate/authz"}}}, "tollgate/authz"},
		{"authz and xds in a test", []listedPackage{{ImportPath: "tollgate/authz/cache", XTestImports: []string{"tollgate/xds"}}}, "tollgate/xds"},
		{"authz and xds through a third", []listedPackage{
			{ImportPath: "tollgate/authz", TestImports: []string{"tollgate/envoy/envoytest"}},
			{ImportPath: "tollgate/envoy/envoytest", Imports: []string{"tollgate/envoy/process"}},
			{ImportPath: "tollgate/envoy/process", Imports: []string{"tollgate/xds"}},
		}, "authz"},
		{"a prefix is not a package", []listedPackage{{ImportPath: "tollgate/xds", Imports: []string{"tollgate/keymanagerfoo"}}}, "keymanagerfoo"},
		{"a test is free", []listedPackage{{ImportPath: "tollgate/keymanager", TestImports: []string{"github.com/google/go-cmp/cmp"}}}, ""},
		{"test support in production", []listedPackage{{ImportPath: "tollgate/cmd/tollgate", Imports: []string{"tollgate/envoy/envoytest"}}}, "only tests"},
		{"test support in a test", []listedPackage{{ImportPath: "tollgate/cmd/tollgate", TestImports: []string{"tollgate/envoy/envoytest"}}}, ""},
		{"a package without a rule", []listedPackage{{ImportPath: "tollgate/util"}}, "no rule"},
		{"testing in production", []listedPackage{{ImportPath: "tollgate/authz", Imports: []string{"testing"}}}, "testing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := checkImports(tc.pkgs)
			if tc.want == "" && len(got) > 0 {
				t.Errorf("found %v", got)
			}
			if tc.want != "" && (len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), tc.want)) {
				t.Errorf("found %q, want %q in it", got, tc.want)
			}
		})
	}
}

// checkImports returns a line for each import that the rules forbid.
func checkImports(packages []listedPackage) []string {
	byPath := map[string]listedPackage{}
	for _, p := range packages {
		byPath[p.ImportPath] = p
	}
	var found []string
	for _, p := range packages {
		i := slices.IndexFunc(importRules, func(r importRule) bool { return matches(r.Package, p.ImportPath) })
		if i < 0 {
			found = append(found, p.ImportPath+": there is no rule for this package")
			continue
		}
		support := matchesAny(testSupport, p.ImportPath)
		for _, imported := range p.Imports {
			switch {
			case !importRules[i].allows(imported):
				found = append(found, fmt.Sprintf("%s must not import %s", p.ImportPath, imported))
			case !support && (matchesAny(testSupport, imported) || imported == "testing"):
				found = append(found, fmt.Sprintf("%s imports %s: only tests may", p.ImportPath, imported))
			}
		}
		for _, pair := range apart {
			if !matches(pair[0], p.ImportPath) {
				continue
			}
			for reached := range reach(byPath, slices.Concat(p.Imports, p.TestImports, p.XTestImports)) {
				if matches(pair[1], reached) {
					found = append(found, fmt.Sprintf("%s or its tests reach %s", p.ImportPath, reached))
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// reach returns imports and all packages of ours that they import.
func reach(byPath map[string]listedPackage, imports []string) map[string]bool {
	seen := map[string]bool{}
	for todo := slices.Clone(imports); len(todo) > 0; todo = todo[1:] {
		if !seen[todo[0]] {
			seen[todo[0]] = true
			todo = append(todo, byPath[todo[0]].Imports...)
		}
	}
	return seen
}

func (r importRule) allows(imported string) bool {
	if imported == module || strings.HasPrefix(imported, module+"/") {
		return matchesAny(r.Ours, imported)
	}
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return true // the standard library
	}
	return slices.ContainsFunc(r.Outside, func(prefix string) bool {
		return prefix == "..." || imported == prefix || strings.HasPrefix(imported, prefix+"/")
	})
}

func matchesAny(patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, importPath) })
}

// matches reports whether importPath is what pattern (without the module's
// name) stands for.
func matches(pattern, importPath string) bool {
	if tree, ok := strings.CutSuffix(pattern, "..."); ok {
		tree = path.Join(module, tree)
		return importPath == tree || strings.HasPrefix(importPath, tree+"/")
	}
	return importPath == path.Join(module, pattern)
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
