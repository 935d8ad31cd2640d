package openapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
	"tollgate/keymanager/openapi"
)

// What a description says about its back ends, beside their addresses.
func TestAdvancedEndpoints(t *testing.T) {
	const document = `{"openapi": "3.0.3", "info": {"title": "pets", "version": "1"}, "x-wso2-basePath": "/pets/1",
		"paths": {"/": {"get": {"responses": {}}}}, %s}`
	const urls = `"urls": ["https://pets.example.com/v3"]`
	for name, tt := range map[string]struct {
		ends     string
		timeout  time.Duration
		backend  keymanager.Backend
		warnings []string
		problems []string
	}{
		"nothing": {ends: `"x-wso2-production-endpoints": {` + urls + `}`, timeout: keymanager.DefaultTimeout},
		"everything": {
			ends: `"x-wso2-production-endpoints": {` + urls + `, "advanceEndpointConfig": {"timeoutInMillis": 7000,
				"retryConfig": {"count": 3, "statusCodes": [504, 503, 504, 500]},
				"circuitBreakers": {"maxConnections": 10, "maxPendingRequests": 20, "maxRequests": 30, "maxRetries": 4, "maxConnectionPools": 5}}}`,
			timeout: 7 * time.Second,
			backend: keymanager.Backend{
				Retry: &keymanager.Retry{Attempts: 3, On: []keymanager.RetryCondition{keymanager.RetryConnectFailure, keymanager.RetryRefusedStream,
					keymanager.RetryResetBeforeRequest, keymanager.Retry504, keymanager.Retry503}},
				Limits: &keymanager.BackendLimits{Connections: 10, Pending: 20, Requests: 30, Retries: 4},
			},
			warnings: []string{
				"/x-wso2-production-endpoints/advanceEndpointConfig/retryConfig/statusCodes/3",
				"/x-wso2-production-endpoints/advanceEndpointConfig/circuitBreakers/maxConnectionPools",
			},
		},
		"the sandbox says something else": {
			ends: `"x-wso2-production-endpoints": {` + urls + `},
				"x-wso2-sandbox-endpoints": {` + urls + `, "advanceEndpointConfig": {"timeoutInMillis": 7000}}`,
			timeout:  keymanager.DefaultTimeout,
			warnings: []string{"/x-wso2-sandbox-endpoints/advanceEndpointConfig"},
		},
		"the sandbox says the same": {
			ends: `"x-wso2-production-endpoints": {` + urls + `, "advanceEndpointConfig": {"timeoutInMillis": 7000}},
				"x-wso2-sandbox-endpoints": {` + urls + `, "advanceEndpointConfig": {"timeoutInMillis": 7000}}`,
			timeout: 7 * time.Second,
		},
		"the sandbox alone": {
			ends:    `"x-wso2-sandbox-endpoints": {` + urls + `, "advanceEndpointConfig": {"timeoutInMillis": 7000}}`,
			timeout: 7 * time.Second,
		},
		"nonsense": {
			ends: `"x-wso2-production-endpoints": {` + urls + `, "advanceEndpointConfig": {"timeoutInMillis": -1,
				"retryConfig": {"count": 9, "statusCodes": "504"}, "circuitBreakers": {"maxRequests": 1.5}}}`,
			problems: []string{
				"/x-wso2-production-endpoints/advanceEndpointConfig/timeoutInMillis",
				"/x-wso2-production-endpoints/advanceEndpointConfig/retryConfig/count",
				"/x-wso2-production-endpoints/advanceEndpointConfig/circuitBreakers/maxRequests",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := importAs(t, fmt.Sprintf(document, tt.ends), openapi.As{})
			if tt.problems != nil {
				if diff := cmp.Diff(tt.problems, problems(t, err)); diff != "" {
					t.Error(diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.API.Timeout != tt.timeout {
				t.Errorf("timeout %v, want %v", got.API.Timeout, tt.timeout)
			}
			if diff := cmp.Diff(tt.backend, got.API.Backend); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.warnings, lines(got.Warnings)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
