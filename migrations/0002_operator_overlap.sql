ALTER TABLE `operators` ADD `earlier_hash` text;--> statement-breakpoint
ALTER TABLE `operators` ADD `earlier_until` integer;