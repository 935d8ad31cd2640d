package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"time"
)

// runH1 sends whole HTTP/1.1 requests on one kept-alive connection.
func (c *client) runH1() error {
	for !c.gen.stopped.Load() {
		start := time.Now()
		if _, err := c.conn.Write(c.payload()); err != nil {
			return err
		}
		resp, err := http.ReadResponse(c.reader, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		wrong := ""
		if resp.StatusCode != c.gen.opts.Status {
			wrong = fmt.Sprintf("%d %.200s", resp.StatusCode, body)
		}
		c.count(time.Since(start), wrong)
		if resp.Close {
			_ = c.conn.Close()
			conn, err := dialAddr(c.gen.opts.Addr)
			if err != nil {
				return err
			}
			c.conn, c.reader = conn, bufio.NewReader(conn)
		}
	}
	return nil
}
