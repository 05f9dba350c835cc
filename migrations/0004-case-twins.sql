-- How many paths of an image differ from another of it only in the case of their letters. Of
-- images from before nobody knows; they have none.

ALTER TABLE images ADD COLUMN case_twins INTEGER NOT NULL DEFAULT 0;
