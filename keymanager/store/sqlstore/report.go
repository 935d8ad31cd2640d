package sqlstore

import (
	"context"
	"encoding/hex"
	"math"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

// databaseMillis is the clock of Postgres as times are stored.
const databaseMillis = `CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)`

// reportRow is a report as a statement takes it, all of them in one document.
type reportRow struct {
	Kind      keymanager.GatewayKind   `json:"kind"`
	ID        string                   `json:"id"`
	Epoch     string                   `json:"epoch"` // hexadecimal
	Confirmed int64                    `json:"confirmed"`
	Reached   int64                    `json:"reached"`
	Document  *keymanager.GatewayState `json:"document"`
	Age       int64                    `json:"age"` // in milliseconds
}

// exchangeReports writes and reads in one statement. What it reads is as it was
// before, so that it sees nothing of its own. Rows are locked in order of their
// key: two key managers never wait for each other.
const exchangeReports = `
WITH clock AS (SELECT ` + databaseMillis + ` AS now),
told AS (
    INSERT INTO gateway_report AS g (kind, id, reporter, epoch, confirmed, reached, document, changed_at, reported_at)
    SELECT r.kind, r.id, $1, decode(r.epoch, 'hex'), r.confirmed, r.reached, NULLIF(r.document, 'null'), now, now - r.age
    FROM jsonb_to_recordset(CAST($2 AS JSONB)) AS r(kind TEXT, id TEXT, epoch TEXT, confirmed BIGINT, reached BIGINT, document JSONB, age BIGINT), clock
    ORDER BY r.kind, r.id
    ON CONFLICT (kind, id) DO UPDATE SET reporter = excluded.reporter, epoch = excluded.epoch,
        confirmed = excluded.confirmed, reached = excluded.reached, reported_at = excluded.reported_at,
        document = COALESCE(excluded.document, g.document),
        changed_at = CASE WHEN excluded.document IS NULL THEN g.changed_at ELSE excluded.changed_at END
    WHERE g.reported_at <= excluded.reported_at
)
SELECT now, kind, id, epoch, confirmed, reached, now - reported_at,
    CAST(CASE WHEN changed_at >= $4 THEN document END AS TEXT)
FROM clock LEFT JOIN gateway_report ON reporter <> $1 AND reported_at >= now - CAST($3 AS BIGINT)`

const (
	// commitTime is how much later than its time a report may be seen.
	commitTime = 10 * time.Second
	// forgetAfter is how long a report stays that nobody repeats.
	forgetAfter = time.Minute
)

// ExchangeGatewayReports tells and reads reports.
func (s *Store) ExchangeGatewayReports(ctx context.Context, reporter string, own []store.GatewayReport, silence time.Duration, since time.Time) ([]store.GatewayReport, time.Time, error) {
	if !s.postgres {
		return nil, time.Time{}, nil
	}
	rows := make([]reportRow, len(own))
	for i, r := range own {
		rows[i] = reportRow{Kind: r.Kind, ID: r.ID, Epoch: hex.EncodeToString(r.Confirmed.Epoch[:]),
			Confirmed: stored(r.Confirmed.Seq), Reached: stored(r.Reached.Seq), Document: r.Document, Age: r.Age.Milliseconds()}
	}
	body, err := encode(rows)
	if err != nil {
		return nil, time.Time{}, err
	}
	var from int64
	if !since.IsZero() {
		from = ms(since.Add(-commitTime))
	}
	var others []store.GatewayReport
	var now time.Time
	err = s.q.Query(ctx, func(r db.Row) error {
		var kind, id *string
		var epoch []byte
		var confirmed, reached, age *int64
		var report store.GatewayReport
		if err := r.Scan(millis{&now}, &kind, &id, &epoch, &confirmed, &reached, &age, optionalDocument{&report.Document}); err != nil {
			return err
		}
		if kind == nil { // nobody else: only the clock
			return nil
		}
		report.Kind, report.ID, report.Age = keymanager.GatewayKind(*kind), *id, time.Duration(*age)*time.Millisecond
		at := headRow{epoch, *confirmed}
		if report.Confirmed, err = at.position(); err != nil {
			return err
		}
		at.seq = *reached
		if report.Reached, err = at.position(); err != nil {
			return err
		}
		others = append(others, report)
		return nil
	}, exchangeReports, reporter, body, silence.Milliseconds(), from)
	if err != nil {
		return nil, time.Time{}, failure(err)
	}
	if since.IsZero() || now.Truncate(forgetAfter) != since.Truncate(forgetAfter) { // once in a while
		_, err = s.q.Exec(ctx, `DELETE FROM gateway_report WHERE reported_at < $1`, ms(now.Add(-forgetAfter)))
	}
	return others, now, failure(err)
}

func stored(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }
