package admin

import (
	"maps"
	"reflect"
	"slices"

	"tollgate/keymanager"
)

// Difference is one value that a change replaces. Without before it is new,
// without after it goes.
type Difference struct {
	Pointer string `json:"pointer" doc:"JSON pointer into the document"`
	Before  any    `json:"before,omitempty"`
	After   any    `json:"after,omitempty"`
}

// differences compares two specs, member by member and element by element.
func differences(before, after any, at string) ([]Difference, error) {
	b, err := treeOf(before)
	if err != nil {
		return nil, err
	}
	a, err := treeOf(after)
	if err != nil {
		return nil, err
	}
	var out []Difference
	compare(b, a, at, &out)
	return out, nil
}

func compare(before, after any, at string, out *[]Difference) {
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			names := maps.Clone(b)
			maps.Copy(names, a)
			for _, name := range slices.Sorted(maps.Keys(names)) {
				compare(b[name], a[name], child(at, name), out)
			}
			return
		}
	case []any:
		if a, ok := after.([]any); ok {
			for i := range max(len(a), len(b)) {
				compare(element(b, i), element(a, i), child(at, i), out)
			}
			return
		}
	}
	if !reflect.DeepEqual(before, after) {
		*out = append(*out, Difference{Pointer: at, Before: before, After: after})
	}
}

func element(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// inDocument moves the problems of a spec to where they stand in its document.
func inDocument(index int, fields []keymanager.FieldError) []FieldProblem {
	out := make([]FieldProblem, len(fields))
	for i, f := range fields {
		at := "/spec" + f.Path
		switch f.Path {
		case "/name", "/userStore", "/keyType": // all of them are in the name
			at = "/name"
		}
		out[i] = FieldProblem{Document: &index, Pointer: at, Detail: f.Detail}
	}
	return out
}
