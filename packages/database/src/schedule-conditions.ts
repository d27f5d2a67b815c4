/** A time this much later than it can be was written by a clock that was ahead. */
const CLOCK_SLACK_MS = 600_000;

/** Whether the schedule of a volume wants a snapshot. `now`: the parameter that is the time, which stands in it twice. */
export const DUE = (now: string): string =>
  `(scheduled_at_ms <= ${now} OR scheduled_at_ms > ${now} + every_ms + ${CLOCK_SLACK_MS})`;

/** Whether a snapshot of a schedule may go: it is ready, does not wait for its upload, nothing was made from it, and a later one of its volume is as good, unless the volume is gone. */
export const THINNABLE = `state = 'ready' AND replication_state IN ('local', 'replicated')
  AND NOT EXISTS (SELECT 1 FROM disks AS made WHERE made.parent_id = disks.id AND made.state <> 'purging')
  AND (NOT EXISTS (SELECT 1 FROM disks AS source WHERE source.id = disks.parent_id)
    OR EXISTS (SELECT 1 FROM disks AS later WHERE later.parent_id = disks.parent_id AND later.kind = 'snapshot' AND later.state = 'ready'
      AND later.sequence > disks.sequence AND (later.replication_state = 'replicated' OR disks.replication_state <> 'replicated')))`;

/** As of when the snapshot store has a volume; nothing of it is there: when it was created. */
export const STATE_AT_MS = `coalesce((SELECT max(snapshot.created_at_ms) FROM disks AS snapshot
  WHERE snapshot.parent_id = disks.id AND snapshot.kind = 'snapshot' AND snapshot.state = 'ready' AND snapshot.replication_state = 'replicated'), disks.created_at_ms)`;

/** A volume whose state in the store is older than so many of its periods is late. */
export const LATE_PERIODS = 3;

/** The snapshot that has taken over the turn of this one to be uploaded; none, if this one has it. `id`: the parameter that is its id. */
export const NEXT_IN_TURN = (
  id: string,
): string => `SELECT next.id FROM disks AS late JOIN disks AS next ON next.parent_id = late.parent_id
  WHERE late.id = ${id} AND late.replication_state = 'local' AND late.replication_retry_at_ms IS NOT NULL
    AND next.is_automatic AND next.state = 'ready' AND next.replication_state IN ('uploading', 'failed') ORDER BY next.sequence DESC LIMIT 1`;
