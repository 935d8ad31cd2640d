package admin

import (
	"bytes"
	"context"
	"net/http"

	"tollgate/keymanager"
	"tollgate/keymanager/openapi"
)

// Imported is the answer to an import.
type Imported struct {
	API      Object[APISpec] `json:"api"`
	Warnings []FieldProblem  `json:"warnings,omitempty" doc:"what of the document was not taken over; pointers into it"`
}

type importIn struct {
	Conditions
	Name    string `query:"name" doc:"of the API; default: the document's title"`
	Version string `query:"version" doc:"default: the document's"`
	Context string `query:"context" doc:"default: x-wso2-basePath, or the path of the first server"`
	RawBody []byte `contentType:"application/json"`
}

type importOut struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     Imported
}

const maxImport = 2 << 20

func mountImport(m *mount) {
	s, r := m.server, apiResource(apis())
	importer := openapi.New(openapi.Options{MaxBytes: maxImport})
	route(m, operation{
		id: "import-api", method: http.MethodPost, path: r.collection + ":import", tag: kindAPI, maxBody: maxImport, makes: true,
		reads: []string{"application/json", "application/yaml", "application/x-yaml", "text/yaml",
			"application/openapi+json", "application/openapi+yaml", "application/vnd.oai.openapi+json", "application/vnd.oai.openapi"},
		summary: "Make an API of an OpenAPI document, or replace what the document says of one",
	}, func(ctx context.Context, in *importIn) (*importOut, error) {
		// A copy: an import that takes too long outlives the request.
		result, err := importer.Import(ctx, bytes.Clone(in.RawBody), openapi.As{Name: in.Name, Version: in.Version, Context: in.Context})
		if err != nil {
			return nil, err
		}
		org, name := requestOf(ctx).organization(), result.API.Name+"/"+result.API.Version
		out := &importOut{}
		err = s.write(ctx, in.Conditions, func(tx *txn) error {
			spec, err := importedSpec(ctx, tx, org, name, &result.API)
			if err != nil {
				return err
			}
			put, err := putSpec(ctx, tx, r, &checks{look: tx.look}, org, name, spec, in.Conditions)
			if err != nil {
				return err
			}
			out.Status, out.ETag, out.Location, out.Body.API = put.Status, put.ETag, put.Location, put.Body
			return nil
		})
		for _, w := range result.Warnings {
			out.Body.Warnings = append(out.Body.Warnings, FieldProblem{Pointer: w.Path, Detail: w.Detail})
		}
		return out, err
	})
}

// importedSpec is what a document says, and of the rest what is there.
func importedSpec(ctx context.Context, tx *txn, org keymanager.OrganizationID, name string, a *keymanager.API) (*APISpec, error) {
	spec := apiSpec(a)
	old, err := found(tx.look.api(ctx, org, name))
	if err != nil {
		return nil, err
	}
	if old == nil {
		return spec, nil
	}
	is := apiSpec(old)
	spec.Hosts, spec.Timeout, spec.Tiers = is.Hosts, is.Timeout, is.Tiers
	spec.State, spec.Labels, spec.Cache = is.State, is.Labels, is.Cache
	return spec, nil
}
