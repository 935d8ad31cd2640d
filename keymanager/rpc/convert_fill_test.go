package rpc

import (
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"pgregory.net/rapid"
)

// fill sets every field below v from d.
func fill(v reflect.Value, d drawer) {
	if all, ok := enums[v.Type()]; ok {
		v.Set(all.Index(d.pick(all.Len())))
		return
	}
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(d.time()))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(d.prefix()))
		return
	case time.Duration:
		v.SetInt(d.number())
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(d.text())
	case reflect.Bool:
		v.SetBool(d.number()%2 != 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(d.number())
	case reflect.Uint8:
		v.SetUint(uint64(byte(d.number())))
	case reflect.Uint64:
		v.SetUint(uint64(d.number()))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), d)
		}
	case reflect.Pointer:
		if d.present() {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), d)
		}
	case reflect.Slice:
		if n := d.length(); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(v.Index(i), d)
			}
		}
	case reflect.Map:
		if n := d.length(); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(key, d)
				fill(value, d)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), d)
		}
	default:
		panic("a noun holds a " + v.Type().String())
	}
}

// drawer is where fill takes its values from.
type drawer interface {
	pick(n int) int
	time() time.Time
	prefix() netip.Prefix
	number() int64
	text() string
	present() bool
	length() int
}

// every draws something for everything, and never twice the same.
type every struct{ n *int64 }

func (d every) number() int64 { *d.n += 2; return *d.n + 1 }

func (d every) pick(n int) int { return int(d.number()) % n }

func (d every) time() time.Time { return time.Unix(d.number(), 7).UTC() }

func (d every) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(d.number())}), 16)
}

func (d every) text() string { return fmt.Sprint("text-", d.number()) }

func (d every) present() bool { return true }

func (d every) length() int { return 2 }

// random draws from rapid, with all that can be left out.
type random struct{ *rapid.T }

func (r random) pick(n int) int { return rapid.IntRange(0, n-1).Draw(r.T, "enum") }

func (r random) number() int64 { return rapid.Int64().Draw(r.T, "number") }

func (r random) text() string { return rapid.String().Draw(r.T, "text") }

func (r random) present() bool { return rapid.Bool().Draw(r.T, "present") }

func (r random) length() int { return rapid.IntRange(0, 3).Draw(r.T, "length") }

func (r random) time() time.Time {
	if !r.present() {
		return time.Time{}
	}
	return time.Unix(rapid.Int64Range(-1<<35, 1<<35).Draw(r.T, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(r.T, "nanos")).UTC()
}

func (r random) prefix() netip.Prefix {
	if r.present() {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r.T, "address"))), rapid.IntRange(0, 128).Draw(r.T, "bits"))
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(r.T, "address"))), rapid.IntRange(0, 32).Draw(r.T, "bits"))
}
