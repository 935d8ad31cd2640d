//go:build !short

package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"tollgate/envoy/envoytest"
)

// composition is what deploy/compose.yaml may say: the keys of the Compose
// Specification that it uses.
type composition struct {
	Name     string                    `yaml:"name"`
	Common   any                       `yaml:"x-tollgate"`
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
	Secrets  map[string]struct {
		File string `yaml:"file"`
	} `yaml:"secrets"`
}

type composeService struct {
	Image string `yaml:"image"`
	Build *struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
	} `yaml:"build"`
	User        string            `yaml:"user"`
	Restart     string            `yaml:"restart"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	SecurityOpt []string          `yaml:"security_opt"`
	Grace       string            `yaml:"stop_grace_period"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	Secrets     []string          `yaml:"secrets"`
	Ports       []string          `yaml:"ports"`
	MemLimit    string            `yaml:"mem_limit"`
	Profiles    []string          `yaml:"profiles"`
	Depends     map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck *struct {
		Test     []string `yaml:"test"`
		Interval string   `yaml:"interval"`
		Timeout  string   `yaml:"timeout"`
		Retries  int      `yaml:"retries"`
	} `yaml:"healthcheck"`
}

// packaged is a copy of deploy, with what secrets.sh has made.
type packaged struct {
	composition
	dir string
}

func newPackaged(t *testing.T) *packaged {
	t.Helper()
	p := &packaged{dir: filepath.Join(envoytest.Dir(t), "deploy")}
	if err := os.CopyFS(p.dir, os.DirFS(filepath.Join("..", "..", "deploy"))); err != nil {
		t.Fatal(err)
	}
	for _, made := range []string{"secrets", "state", "run", "envoy"} { // of somebody who has tried it here
		if err := os.RemoveAll(filepath.Join(p.dir, "compose", made)); err != nil {
			t.Fatal(err)
		}
	}
	p.makeSecrets(t)
	text, err := os.ReadFile(filepath.Join(p.dir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&p.composition); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *packaged) makeSecrets(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "sh", filepath.Join(p.dir, "compose", "secrets.sh")).CombinedOutput(); err != nil {
		t.Fatalf("secrets.sh: %v\n%s", err, out)
	}
}

// host returns where a path of a service's container is on this machine.
func (p *packaged) host(s composeService, container string) (string, bool) {
	best, found := "", ""
	for _, v := range s.Volumes {
		parts := strings.Split(v, ":")
		if inside := parts[1]; (container == inside || strings.HasPrefix(container, inside+"/")) && len(inside) > len(best) {
			best, found = inside, filepath.Join(p.dir, parts[0], strings.TrimPrefix(container, inside))
		}
	}
	if name, ok := strings.CutPrefix(container, "/run/secrets/"); ok && slices.Contains(s.Secrets, name) {
		return filepath.Join(p.dir, p.Secrets[name].File), true
	}
	return found, best != ""
}

var containerPath = regexp.MustCompile(`/(etc|run|var)/[a-z0-9_./-]+`)

// onHost rewrites a text with paths of a service's container. Each must be
// there, unless it is Envoy's own standard output or a socket to be made.
func (p *packaged) onHost(t *testing.T, name, text string) string {
	t.Helper()
	return containerPath.ReplaceAllStringFunc(text, func(path string) string {
		host, ok := p.host(p.Services[name], path)
		if !ok {
			t.Errorf("%s: nothing is mounted at %s", name, path)
			return path
		}
		if _, err := os.Stat(host); err != nil && !strings.HasSuffix(path, ".sock") {
			t.Errorf("%s: %s: %v", name, path, err)
		}
		return host
	})
}

// Everything that compose.yaml refers to is there, and everything that it
// declares is used.
func TestCompose(t *testing.T) {
	p := newPackaged(t)
	env, err := os.ReadFile(filepath.Join(p.dir, ".env"))
	if err != nil || !strings.HasPrefix(string(env), "TOLLGATE_USER=") {
		t.Fatalf(".env: %s, %v", env, err)
	}
	volumes, secrets := map[string]bool{}, map[string]bool{}
	published := map[string]string{}
	for name, s := range p.Services {
		if s.Image == "" {
			t.Errorf("%s: no image", name)
		}
		if s.Build != nil {
			if s.Build.Context != ".." {
				t.Errorf("%s: builds in %s", name, s.Build.Context)
			}
			if _, err := os.Stat(filepath.Join("..", "..", s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if strings.Contains(s.User, "$") && !strings.HasPrefix(s.User, "${TOLLGATE_USER:?") {
			t.Errorf("%s: user %s", name, s.User)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := p.Volumes[source]; !ok {
					t.Errorf("%s: no volume %s", name, source)
				}
				volumes[source] = true
			} else if _, err := os.Stat(filepath.Join(p.dir, source)); err != nil {
				t.Errorf("%s: %v: secrets.sh does not make it", name, err)
			}
		}
		for _, secret := range s.Secrets {
			info, err := os.Stat(filepath.Join(p.dir, p.Secrets[secret].File))
			if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: secret %s: %v, %v", name, secret, info, err)
			}
			secrets[secret] = true
		}
		for other := range s.Depends {
			if _, ok := p.Services[other]; !ok {
				t.Errorf("%s: depends on %s", name, other)
			}
		}
		for _, port := range s.Ports {
			outside := port[:strings.LastIndexByte(port, ':')]
			if published[outside] != "" {
				t.Errorf("%s and %s are both at %s", name, published[outside], outside)
			}
			published[outside] = name
		}
	}
	if len(volumes) != len(p.Volumes) || len(secrets) != len(p.Secrets) {
		t.Errorf("used are volumes %v of %v, secrets %v of %v", volumes, p.Volumes, secrets, p.Secrets)
	}
	before := contents(t, p.dir)
	p.makeSecrets(t)
	for file, text := range contents(t, p.dir) {
		if before[file] != text && !strings.HasSuffix(file, ".srl") {
			t.Errorf("secrets.sh replaces %s", file)
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		out[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Every command of ours in compose.yaml is one, and its configuration is valid
// with the certificates that secrets.sh makes, and reaches services that exist.
func TestComposeCommands(t *testing.T) {
	p := newPackaged(t)
	served := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[name]
		if s.Build == nil {
			p.onHost(t, name, strings.ReplaceAll(strings.Join(s.Command, " "), "/etc/envoy/bootstrap.yaml", "/etc/envoy"))
			continue
		}
		cmd, rest, err := newRoot().Find(s.Command)
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil && cmd.Args != nil {
			err = cmd.Args(cmd, cmd.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: %v: %v", name, s.Command, err)
			continue
		}
		if cmd.Name() != "serve" {
			continue
		}
		role := s.Command[1]
		served[role] = true
		config := s.Command[slices.Index(s.Command, "--config")+1]
		file, ok := p.host(s, config)
		if !ok {
			t.Fatalf("%s: %s is not mounted", name, config)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range regexp.MustCompile(`"(?:https://)?([a-z]+):[0-9]+"`).FindAllStringSubmatch(string(text), -1) {
			if _, ok := p.Services[target[1]]; !ok {
				t.Errorf("%s: no service %s", config, target[1])
			}
		}
		onHost := filepath.Join(t.TempDir(), path.Base(config))
		plain := regexp.MustCompile(`/dev/stdout`).ReplaceAllString(string(text), "")
		if err := os.WriteFile(onHost, []byte(p.onHost(t, name, plain)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := runCommand(t, "check-config", onHost, role); err != nil {
			t.Errorf("%s: %v %s", config, err, out)
		}
	}
	if len(served) != len(roleNames) {
		t.Errorf("served are %v", served)
	}
}

// The bootstrap of compose.yaml is one that Envoy takes.
func TestComposeBootstrap(t *testing.T) {
	p := newPackaged(t)
	args := slices.Clone(p.Services["bootstrap"].Command)
	// Envoy sees more than the container that writes its bootstrap.
	merged := p.Services["bootstrap"]
	merged.Volumes = append(slices.Clone(merged.Volumes), p.Services["envoy"].Volumes...)
	p.Services["merged"] = merged
	for i := range args {
		args[i] = p.onHost(t, "merged", args[i])
	}
	if out, err := runCommand(t, append(args, "--sds-dir="+filepath.Join(p.dir, "compose", "envoy", "sds"))...); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	file := filepath.Join(p.dir, "compose", "envoy", "bootstrap.yaml")
	out, err := exec.CommandContext(t.Context(), envoytest.Binary(t), "--mode", "validate", "-c", file, "-l", "warning").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// dockerInstructions are those of the reference that a file of ours may use.
var dockerInstructions = []string{"ARG", "CMD", "COPY", "ENTRYPOINT", "EXPOSE", "FROM", "RUN", "USER", "WORKDIR"}

// The Dockerfile has instructions that exist, copies what is there, and its
// build line builds a static binary.
func TestDockerfile(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "deploy", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages, built, user := map[string]bool{}, "", ""
	for n, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		instruction, rest, _ := strings.Cut(line, " ")
		words := strings.Fields(rest)
		if !slices.Contains(dockerInstructions, instruction) || len(words) == 0 {
			t.Errorf("line %d: %s", n+1, line)
			continue
		}
		switch instruction {
		case "FROM":
			if len(stages) == 0 {
				stages[words[2]] = true
			}
			user = ""
		case "COPY":
			from, ok := strings.CutPrefix(words[0], "--from=")
			if ok && (!stages[from] || !strings.Contains(built, words[1])) {
				t.Errorf("line %d: %s is not built", n+1, words[1])
			}
			for _, source := range words[:len(words)-1] {
				if _, err := os.Stat(filepath.Join(root, source)); err != nil && !ok {
					t.Errorf("line %d: %v", n+1, err)
				}
			}
		case "RUN":
			if strings.Contains(rest, "go build") {
				built = rest
			}
		case "USER":
			user = words[0]
		case "ENTRYPOINT", "CMD":
			var args []string
			if err := yaml.Unmarshal([]byte(rest), &args); err != nil || !strings.HasPrefix(rest, "[") {
				t.Errorf("line %d: %s is not in the exec form", n+1, line)
			}
		}
	}
	if user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("the last stage runs as %q", user)
	}
	binary := filepath.Join(t.TempDir(), "tollgate")
	line := strings.ReplaceAll(strings.ReplaceAll(built, "/out/tollgate", binary), "${VERSION}", "v9.9.9")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary, "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "v9.9.9") {
		t.Errorf("version: %s, %v", out, err)
	}
	if out, err := exec.CommandContext(t.Context(), "file", "-b", binary).Output(); err == nil && !strings.Contains(string(out), "statically linked") {
		t.Errorf("the binary is %s", out)
	}
}
