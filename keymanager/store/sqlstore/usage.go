package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

// usageRow is a record as a statement takes it, all of them in one document.
type usageRow struct {
	Source       int64  `json:"source"`
	Number       int64  `json:"number"`
	At           int64  `json:"at"`
	Request      string `json:"request_id"`
	Gateway      string `json:"gateway"`
	Group        string `json:"gateway_group"`
	Organization string `json:"organization"`
	API          string `json:"api_id"`
	APIVersion   string `json:"api_version"`
	Application  string `json:"application_id"`
	Subscription string `json:"subscription_id"`
	ConsumerKey  string `json:"consumer_key"`
	KeyType      string `json:"key_type"`
	Tier         string `json:"tier"`
	User         string `json:"user_name"`
	Method       string `json:"method"`
	Route        string `json:"route"`
	Status       int64  `json:"status"`
	Reason       string `json:"reason"`
	Fault        string `json:"fault"`
	Flags        string `json:"flags"`
	RequestSize  int64  `json:"request_bytes"`
	ResponseSize int64  `json:"response_bytes"`
	Duration     int64  `json:"duration_us"`
	Upstream     int64  `json:"upstream_us"`
}

const usageColumns = `source, number, at, request_id, gateway, gateway_group, organization, api_id, api_version, application_id,
	subscription_id, consumer_key, key_type, tier, user_name, method, route, status, reason, fault, flags,
	request_bytes, response_bytes, duration_us, upstream_us`

// usageIntegers are the columns that are no texts.
var usageIntegers = map[string]bool{
	"source": true, "number": true, "at": true, "status": true,
	"request_bytes": true, "response_bytes": true, "duration_us": true, "upstream_us": true,
}

// addUsage is the statement of AddUsage for each engine.
var addUsage = map[bool]string{true: addUsageStatement(true), false: addUsageStatement(false)}

func addUsageStatement(postgres bool) string {
	var rows, types, values []string
	for column := range strings.SplitSeq(usageColumns, ",") {
		column = strings.TrimSpace(column)
		rows = append(rows, fmt.Sprintf(`value ->> '$.%s' AS %[1]s`, column))
		kind := "TEXT"
		if usageIntegers[column] {
			kind = "BIGINT"
		}
		types = append(types, column+" "+kind)
		value := "r." + column
		if column == "organization" {
			value = "COALESCE(a.organization, r.organization)"
		}
		values = append(values, value)
	}
	from := `(SELECT ` + strings.Join(rows, ", ") + ` FROM json_each($1)) AS r`
	if postgres {
		from = `json_to_recordset(CAST($1 AS JSON)) AS r(` + strings.Join(types, ", ") + `)`
	}
	return `INSERT INTO usage_record (` + usageColumns + `) SELECT ` + strings.Join(values, ", ") + ` FROM ` + from + `
		LEFT JOIN api a ON a.id = r.api_id WHERE true ON CONFLICT (source, number) DO NOTHING`
}

// AddUsage writes records.
func (s *Store) AddUsage(ctx context.Context, records []store.UsageRecord) error {
	if len(records) == 0 {
		return nil
	}
	rows := make([]usageRow, len(records))
	for i := range records {
		r := &records[i]
		rows[i] = usageRow{
			Source: r.Source, Number: r.Number, At: ms(r.At), Request: r.Request, Gateway: r.Gateway, Group: r.Group,
			Organization: string(r.Organization), API: string(r.API), APIVersion: r.APIVersion, Application: string(r.Application),
			Subscription: string(r.Subscription), ConsumerKey: string(r.ConsumerKey), KeyType: string(r.KeyType), Tier: string(r.Tier),
			User: r.User, Method: r.Method, Route: r.Route, Status: int64(r.Status), Reason: r.Reason, Fault: string(r.Fault), Flags: r.Flags,
			RequestSize: r.RequestBytes, ResponseSize: r.ResponseBytes,
			Duration: r.Duration.Microseconds(), Upstream: r.Upstream.Microseconds(),
		}
		if !rows[i].storable() {
			return keymanager.Errorf(keymanager.KindInvalid, "a text of a usage record cannot be stored")
		}
	}
	body, err := encode(rows)
	if err != nil {
		return err
	}
	_, err = s.q.Exec(ctx, addUsage[s.postgres], body)
	return failure(err)
}

func (r *usageRow) storable() bool {
	return storable(r.Request, r.Gateway, r.Group, r.Organization, r.API, r.APIVersion, r.Application, r.Subscription, r.ConsumerKey,
		r.KeyType, r.Tier, r.User, r.Method, r.Route, r.Reason, r.Fault, r.Flags)
}

func scanUsage(r db.Row, u *store.UsageRecord) error {
	return r.Scan(&u.Source, &u.Number, millis{&u.At}, &u.Request, &u.Gateway, &u.Group, &u.Organization, &u.API, &u.APIVersion,
		&u.Application, &u.Subscription, &u.ConsumerKey, &u.KeyType, &u.Tier, &u.User, &u.Method, &u.Route, &u.Status,
		&u.Reason, &u.Fault, &u.Flags, &u.RequestBytes, &u.ResponseBytes, micros{&u.Duration}, micros{&u.Upstream})
}

// micros reads microseconds.
type micros struct{ d *time.Duration }

func (m micros) Scan(src any) error {
	v, ok := src.(int64)
	if !ok {
		return fmt.Errorf("duration: want an integer, got %T", src)
	}
	*m.d = time.Duration(v) * time.Microsecond
	return nil
}

// usageWhere are the conditions of a query, with $1 to $5.
const usageWhere = ` WHERE (CAST($1 AS TEXT) = '' OR organization = $1) AND at >= $2 AND at < $3
	AND (CAST($4 AS TEXT) = '' OR api_id = $4) AND (CAST($5 AS TEXT) = '' OR application_id = $5)`

func usageArgs(q *store.UsageQuery) []any {
	return []any{q.Organization, ms(q.From), ms(q.To), q.API, q.Application}
}

// UsageRecords lists records, newest first.
func (s *Store) UsageRecords(ctx context.Context, q store.UsageQuery, p store.Page) ([]store.UsageRecord, int, error) {
	return list(ctx, s.q, p, scanUsage,
		`SELECT `+usageColumns+` FROM usage_record`+usageWhere+` ORDER BY at DESC, source, number DESC LIMIT $6 OFFSET $7`,
		`SELECT count(*) FROM usage_record`+usageWhere, usageArgs(&q)...)
}

// usageKeys are the columns of the dimensions, and what a value is called.
var usageKeys = map[store.UsageDimension]struct{ column, name string }{
	store.UsageByNothing:      {column: `''`},
	store.UsageByAPI:          {`api_id`, `(SELECT name || ' ' || version FROM api WHERE id = key)`},
	store.UsageByApplication:  {`application_id`, `(SELECT name FROM application WHERE id = key)`},
	store.UsageBySubscription: {column: `subscription_id`},
	store.UsageByConsumerKey:  {column: `consumer_key`},
	store.UsageByTier:         {column: `tier`},
	store.UsageByUser:         {column: `user_name`},
	store.UsageByStatus:       {column: `CAST(status AS TEXT)`},
	store.UsageByReason:       {column: `reason`},
	store.UsageByFault:        {column: `fault`},
	store.UsageByGateway:      {column: `gateway`},
}

// SumUsage sums up. The percentiles are exact: calls are numbered by their
// duration.
func (s *Store) SumUsage(ctx context.Context, q store.UsageQuery, p store.Page) (sums []store.UsageSum, total int, err error) {
	key, ok := usageKeys[q.By]
	if !ok {
		return nil, 0, fmt.Errorf("usage: no dimension %q", q.By)
	}
	if key.name == "" {
		key.name = `''`
	}
	piece := `CAST(0 AS BIGINT)`
	if step := q.Step.Milliseconds(); step > 0 {
		piece = fmt.Sprintf(`at - at %% %d`, step)
	}
	query := `SELECT piece, key, COALESCE(` + key.name + `, ''), calls, failed, broken, request, response, p50, p95, count(*) OVER () FROM (
		SELECT piece, key, count(*) AS calls,
			sum(CASE WHEN fault <> '' THEN 1 ELSE 0 END) AS failed, sum(CASE WHEN status >= 500 THEN 1 ELSE 0 END) AS broken,
			CAST(sum(request_bytes) AS BIGINT) AS request, CAST(sum(response_bytes) AS BIGINT) AS response,
			min(CASE WHEN place * 2 >= n THEN duration_us END) AS p50, min(CASE WHEN place * 100 >= n * 95 THEN duration_us END) AS p95
		FROM (
			SELECT piece, key, fault, status, request_bytes, response_bytes, duration_us,
				row_number() OVER (PARTITION BY piece, key ORDER BY duration_us) AS place, count(*) OVER (PARTITION BY piece, key) AS n
			FROM (SELECT ` + piece + ` AS piece, ` + key.column + ` AS key, fault, status, request_bytes, response_bytes, duration_us
				FROM usage_record` + usageWhere + `) AS calls
		) AS numbered GROUP BY piece, key
	) AS sums ORDER BY piece, calls DESC, key LIMIT $6 OFFSET $7`
	limit := p.Limit
	if limit <= 0 {
		limit = store.DefaultLimit
	}
	sums, err = all(ctx, s.q, func(r db.Row, u *store.UsageSum) error {
		var at int64
		err := r.Scan(&at, &u.Key, &u.Name, &u.Calls, &u.Failed, &u.ServerErrors, &u.RequestBytes, &u.ResponseBytes,
			micros{&u.P50}, micros{&u.P95}, &total)
		if q.Step > 0 {
			u.At = time.UnixMilli(at).UTC()
		}
		return err
	}, query, append(usageArgs(&q), min(limit, store.MaxLimit), max(p.Offset, 0))...)
	return sums, total, err
}

// DeleteUsage removes the oldest records before t.
func (s *Store) DeleteUsage(ctx context.Context, t time.Time, limit int) (int, error) {
	n, err := s.q.Exec(ctx, `DELETE FROM usage_record WHERE (source, number) IN
		(SELECT source, number FROM usage_record WHERE at < $1 ORDER BY at LIMIT $2`+s.lockingClause("FOR UPDATE SKIP LOCKED")+`)`, ms(t), limit)
	return int(n), failure(err)
}
