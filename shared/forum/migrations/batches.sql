CREATE FUNCTION plan_by_key() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
        set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true),
        set_config('plan_cache_mode', 'force_generic_plan', true);
END
$$;
COMMENT ON FUNCTION plan_by_key IS
    'in this transaction every read is by key: fresh statistics are wrong exactly during an import';

CREATE FUNCTION begin_batch(alone boolean, OUT somebody_was_erased boolean, OUT something_was_merged boolean)
LANGUAGE plpgsql AS $$
BEGIN
    IF alone THEN
        PERFORM pg_advisory_xact_lock(4829119, hashtext(current_schema));
    ELSE
        PERFORM pg_advisory_xact_lock_shared(4829119, hashtext(current_schema));
    END IF;
    PERFORM plan_by_key();
    -- A statement of its own: it sees what was committed while the lock was waited for.
    SELECT EXISTS (SELECT FROM erased), EXISTS (SELECT FROM alias) INTO somebody_was_erased, something_was_merged;
END
$$;
COMMENT ON FUNCTION begin_batch IS
    'the lock under which facts are folded, alone or beside others, how to plan from here on, and what there is to heed';
