-- Items, reservations, and the last changes for those who watch. Run as one transaction, by a role that may create a
-- schema in the database; the server does so by itself if its own role may.

CREATE SCHEMA IF NOT EXISTS inventory;

-- One row. Who writes locks it first, so that there is one writer at a time, and its revision counts changes of items.
CREATE TABLE inventory.meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    schema integer NOT NULL,
    revision bigint NOT NULL
);

CREATE TABLE inventory.items (
    sku text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    quantity bigint NOT NULL,
    reserved bigint NOT NULL DEFAULT 0,
    CHECK (0 <= reserved AND reserved <= quantity)
);

-- The digest, because a caller's name may be longer than a key can be.
CREATE TABLE inventory.reservations (
    caller_sha256 bytea,
    id uuid,
    caller text NOT NULL,
    sku text NOT NULL,
    quantity bigint NOT NULL,
    available bigint NOT NULL,
    PRIMARY KEY (caller_sha256, id)
);

-- Each change of an item, without a gap; older ones than the last 16384 go.
CREATE TABLE inventory.changes (
    revision bigint PRIMARY KEY,
    sku text NOT NULL,
    name text NOT NULL,
    quantity bigint NOT NULL,
    reserved bigint NOT NULL
);

-- Sets the revision after changes, and wakes those who watch.
CREATE FUNCTION inventory.changed(newest bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE inventory.meta SET revision = newest WHERE revision <> newest;
    IF FOUND THEN
        DELETE FROM inventory.changes WHERE revision <= newest - 16384;
        NOTIFY inventory;
    END IF;
END $$;

-- Makes reservations one after the other, and says for each, in their order, what became of it: 'made' (also when it
-- was made before, with what was available then), 'reused', 'unknown', or 'short' with what is available.
CREATE FUNCTION inventory.reserve(callers text[], ids uuid[], skus text[], quantities bigint[])
RETURNS TABLE (outcome text, available bigint) LANGUAGE plpgsql AS $$
DECLARE
    wanted record;
    digest bytea;
    first inventory.reservations;
    item inventory.items;
    newest bigint;
BEGIN
    SELECT revision INTO newest FROM inventory.meta FOR UPDATE;
    FOR wanted IN SELECT * FROM unnest(callers, ids, skus, quantities) AS w(caller, id, sku, quantity) LOOP
        digest := sha256(convert_to(wanted.caller, 'UTF8'));
        SELECT * INTO first FROM inventory.reservations r WHERE r.caller_sha256 = digest AND r.id = wanted.id;
        IF FOUND THEN
            outcome := CASE WHEN (first.sku, first.quantity) = (wanted.sku, wanted.quantity) THEN 'made' ELSE 'reused' END;
            available := first.available;
        ELSE
            SELECT * INTO item FROM inventory.items i WHERE i.sku = wanted.sku;
            available := item.quantity - item.reserved - wanted.quantity;
            IF available IS NULL THEN
                outcome := 'unknown';
            ELSIF available < 0 THEN
                outcome := 'short';
                available := available + wanted.quantity;
            ELSE
                outcome := 'made';
                newest := newest + 1;
                UPDATE inventory.items i SET reserved = i.reserved + wanted.quantity WHERE i.sku = wanted.sku
                    RETURNING * INTO item;
                INSERT INTO inventory.reservations
                    VALUES (digest, wanted.id, wanted.caller, wanted.sku, wanted.quantity, reserve.available);
                INSERT INTO inventory.changes VALUES (newest, item.sku, item.name, item.quantity, item.reserved);
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
    PERFORM inventory.changed(newest);
END $$;

-- Creates or sets all items, and says how many; or none of them, and gives the first that would have fewer units than
-- are promised.
CREATE FUNCTION inventory.import(
    skus text[], names text[], quantities bigint[],
    OUT created bigint, OUT updated bigint, OUT below_sku text, OUT below_quantity bigint, OUT below_reserved bigint
) LANGUAGE plpgsql AS $$
DECLARE
    newest bigint;
BEGIN
    SELECT revision INTO newest FROM inventory.meta FOR UPDATE;
    SELECT i.sku, w.quantity, i.reserved INTO below_sku, below_quantity, below_reserved
        FROM unnest(skus, quantities) WITH ORDINALITY AS w(sku, quantity, n) JOIN inventory.items i ON i.sku = w.sku
        WHERE w.quantity < i.reserved ORDER BY n LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;
    WITH wanted AS (
        SELECT w.*, i.sku IS NULL AS is_new, coalesce(i.reserved, 0) AS reserved, newest + row_number() OVER (ORDER BY n) AS at
        FROM unnest(skus, names, quantities) WITH ORDINALITY AS w(sku, name, quantity, n)
        LEFT JOIN inventory.items i ON i.sku = w.sku
        WHERE (i.name, i.quantity) IS DISTINCT FROM (w.name, w.quantity)
    ), written AS (
        INSERT INTO inventory.items SELECT sku, name, quantity FROM wanted
        ON CONFLICT (sku) DO UPDATE SET name = excluded.name, quantity = excluded.quantity
    ), logged AS (
        INSERT INTO inventory.changes SELECT at, sku, name, quantity, reserved FROM wanted
    )
    SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) INTO created, updated FROM wanted;
    PERFORM inventory.changed(newest + created + updated);
END $$;

INSERT INTO inventory.meta (schema, revision) VALUES (1, 0);
