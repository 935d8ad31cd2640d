package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tollgate/envoy/process"
)

func newDevCommand() *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:     "dev",
		Short:   "Run everything on this machine: serve, a real Envoy and a sample back end",
		Long:    "Run key manager, authz, xds, a supervised Envoy and a sample back end with two APIs, and print how to call\nthem. Ctrl-C stops everything.",
		GroupID: "serve",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := flags.configFor(cmd.Flags(), allRoles)
			if err != nil {
				return err
			}
			return runDev(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags.register(cmd.Flags())
	d := defaultConfig()
	cmd.Flags().String("sample-production", d.Sample.Production, "where the sample back end's production instance listens (sample.production)")
	cmd.Flags().String("sample-sandbox", d.Sample.Sandbox, "where its sandbox instance listens (sample.sandbox)")
	cmd.Flags().String("envoy", d.Envoy.Path, "Envoy to run (envoy.path; default: the first on PATH or below .tools that is new enough)")
	return cmd
}

// maxEnvoyLog bounds envoy.log and the envoy.log.old before it, each: Envoy's
// own log and its access log.
const maxEnvoyLog = 32 << 20

// runDev runs everything until ctx ends, and prints the developer's page when
// a call through Envoy has been answered, and not before.
func runDev(ctx context.Context, cfg Config, stdout, stderr io.Writer) error {
	binary, err := process.Find(ctx, process.FindOptions{Explicit: cfg.Envoy.Path, Tools: toolFolders()})
	if err != nil {
		return err
	}
	if cfg.KeyManager.Issuer == "" { // the token endpoint's address for everybody but us
		cfg.KeyManager.Issuer = "http://" + cfg.Gateway.Address
	}
	d, err := newDaemon(ctx, cfg, allRoles, newLogger(stderr, cfg.Log))
	if errors.Is(err, errStopped) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.close()
	sample, err := d.listenSample(ctx)
	if err != nil {
		return err
	}
	defer closeAll(sample)
	if err := checkFree(ctx, "gateway", "--gateway", cfg.Gateway.Address); err != nil {
		return err
	}
	envoyLog, err := process.OpenLog(d.state.Path(fileEnvoyLog), maxEnvoyLog)
	if err != nil {
		return err
	}
	defer func() { _ = envoyLog.Close() }()
	supervised, err := d.envoyTask(binary, envoyLog)
	if err != nil {
		return err
	}
	front := []task{
		httpTask("sample back end", sample[0], newSample(sampleProduction), time.Second, d.log),
		httpTask("sample back end", sample[1], newSample(sampleSandbox), time.Second, d.log),
		supervised,
	}
	return d.run(ctx, front, func(ctx context.Context) error {
		page, err := d.prepareDemo(ctx)
		if err == nil {
			_, err = io.WriteString(stdout, page)
		}
		if ctx.Err() != nil {
			err = nil // stopped before it was ready
		}
		return err
	})
}

// listenSample opens the addresses of the sample back end.
func (d *daemon) listenSample(ctx context.Context) ([]net.Listener, error) {
	production, err := listenTCP(ctx, "sample back end", "--sample-production", d.cfg.Sample.Production)
	if err != nil {
		return nil, err
	}
	sandbox, err := listenTCP(ctx, "sample back end", "--sample-sandbox", d.cfg.Sample.Sandbox)
	if err != nil {
		return nil, errors.Join(err, production.Close())
	}
	return []net.Listener{production, sandbox}, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// envoyTask supervises Envoy from the moment that the control plane has
// something for it.
func (d *daemon) envoyTask(binary process.Binary, log io.Writer) (task, error) {
	bootstrap, err := renderBootstrap(&d.cfg, "dev", d.xdsAddress(), d.authzSocket(), d.usageAddress(), d.state.Socket(fileAdminSock))
	if err != nil {
		return task{}, err
	}
	return task{"envoy", func(ctx context.Context) error {
		if !d.waitReady(ctx) {
			return nil
		}
		return process.Supervise(ctx, process.SuperviseOptions{
			Options: process.Options{
				Binary: binary.Path, Bootstrap: bootstrap, Dir: d.state.Dir,
				Concurrency: d.cfg.Envoy.Concurrency, Log: log, Output: log,
			},
			Logger: d.log,
		})
	}}, nil
}

// prepareDemo makes the demo data and waits until a call through Envoy is
// answered as the page says it is.
func (d *daemon) prepareDemo(ctx context.Context) (string, error) {
	c, err := newClient(d.credentials)
	if err != nil {
		return "", err
	}
	defer c.http.CloseIdleConnections()
	if err := d.waitGateway(ctx, c.http); err != nil {
		return "", err
	}
	demo, err := ensureDemo(ctx, c, d.state, d.cfg.Sample)
	if err != nil {
		return "", err
	}
	page := demoPage{Gateway: "http://" + d.cfg.Gateway.Address, KeyManager: d.credentials.Server,
		Ops: serverURL(d.opsListener.Addr()), State: d.cfg.State.Dir, Demo: demo.Production}
	if page.Note, err = d.tryDemo(ctx, page, demo.First); err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = pageTemplate.Execute(&b, page)
	return b.String(), err
}

// waitGateway waits until the key manager answers through Envoy.
func (d *daemon) waitGateway(ctx context.Context, client *http.Client) error {
	said := time.Now()
	for {
		err := getOK(ctx, client, "http://"+d.cfg.Gateway.Address+"/.well-known/oauth-authorization-server")
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(said) > 5*time.Second {
			d.log.Warn("Envoy does not answer yet", "error", err, "log", d.state.Path(fileEnvoyLog))
			said = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func getOK(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

// toolFolders are where "make envoy" installs Envoy: below the working folder,
// and beside the binary's.
func toolFolders() []string {
	folders := []string{".tools"}
	if exe, err := os.Executable(); err == nil {
		folders = append(folders, filepath.Join(filepath.Dir(exe), "..", ".tools"))
	}
	return folders
}
