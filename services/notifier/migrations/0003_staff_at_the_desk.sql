ALTER TABLE delivery ADD COLUMN forced boolean NOT NULL DEFAULT false, ADD COLUMN by_staff boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN delivery.forced IS 'staff asked to send it again: neither the hour nor the budget nor a pause holds it';
COMMENT ON COLUMN delivery.by_staff IS 'its history names somebody of the staff';
CREATE INDEX delivery_by_staff ON delivery (delivery_id) WHERE by_staff;
