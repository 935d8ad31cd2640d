package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"tollgate/keymanager"
)

// ParseAPI reads an API as the management API shows it to its administrators
// (Object[APISpec] in JSON). What is not shown is zero: the position of its
// last change. A field that this version does not know is an error, and so is
// an API that was made nowhere: it has no id.
func ParseAPI(object []byte) (*keymanager.API, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	var o Object[APISpec]
	if err := d.Decode(&o); err != nil {
		return nil, fmt.Errorf("not an API as the management API shows it: %w", err)
	}
	if o.Kind != kindAPI || o.ID == "" {
		return nil, fmt.Errorf("%q is not an API with its id", o.Name)
	}
	a := &keymanager.API{ID: keymanager.APIID(o.ID), Organization: keymanager.OrganizationID(o.Organization)}
	a.Revision, a.CreatedAt, a.UpdatedAt = o.Revision, o.CreatedAt, o.UpdatedAt
	c := &checks{}
	o.Spec.noun(a, c)
	name, version, _ := strings.Cut(o.Name, "/")
	if a.Name = name; a.Version == "" {
		a.Version = version
	}
	if fields := append(c.fields, keymanager.ValidateAPI(a)...); len(fields) > 0 {
		return nil, keymanager.Invalid("API "+o.Name+" is not valid", fields)
	}
	return a, nil
}
