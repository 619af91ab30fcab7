CREATE TABLE `answers` (
	`key` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`service_id` text NOT NULL,
	`model_version` text,
	`bytes` integer NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `answers_expiry` ON `answers` (`expires_at`);--> statement-breakpoint
CREATE INDEX `answers_tenant` ON `answers` (`tenant_id`);--> statement-breakpoint
CREATE TABLE `audit` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`at` integer DEFAULT (unixepoch() * 1000) NOT NULL,
	`actor` text NOT NULL,
	`action` text NOT NULL,
	`target` text NOT NULL,
	`before` text,
	`after` text,
	`request_id` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `audit_target` ON `audit` (`target`,`id`);--> statement-breakpoint
CREATE TABLE `cards` (
	`id` text PRIMARY KEY NOT NULL,
	`server` text,
	`gpu` integer,
	`slots` integer DEFAULT 2 NOT NULL,
	`state` text DEFAULT 'active' NOT NULL,
	`token_hash` text NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `keys` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`name` text,
	`hash` text NOT NULL,
	`tail` text NOT NULL,
	`scopes` text,
	`services` text,
	`state` text DEFAULT 'active' NOT NULL,
	`created_at` integer NOT NULL,
	`created_by` text NOT NULL,
	`expires_at` integer,
	`revoked_at` integer,
	`last_used_at` integer,
	`rotated_from` text
);
--> statement-breakpoint
CREATE INDEX `keys_tenant` ON `keys` (`tenant_id`,`created_at`);--> statement-breakpoint
CREATE TABLE `listings` (
	`service_id` text NOT NULL,
	`card_id` text NOT NULL,
	`origin` text NOT NULL,
	`transport` text DEFAULT 'direct' NOT NULL,
	`weight` real DEFAULT 1 NOT NULL,
	PRIMARY KEY(`service_id`, `card_id`)
);
--> statement-breakpoint
CREATE INDEX `listings_card` ON `listings` (`card_id`);--> statement-breakpoint
CREATE TABLE `results` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`service_id` text NOT NULL,
	`request_id` text NOT NULL,
	`model_version` text,
	`content_type` text NOT NULL,
	`bytes` integer NOT NULL,
	`sha256` text NOT NULL,
	`visibility` text DEFAULT 'signed' NOT NULL,
	`answer_key` text,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `results_tenant` ON `results` (`tenant_id`,`created_at`);--> statement-breakpoint
CREATE INDEX `results_expiry` ON `results` (`expires_at`);--> statement-breakpoint
CREATE INDEX `results_answer` ON `results` (`answer_key`);--> statement-breakpoint
CREATE TABLE `services` (
	`id` text PRIMARY KEY NOT NULL,
	`route` text NOT NULL,
	`config` text NOT NULL,
	`paused` integer DEFAULT false NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `services_route_unique` ON `services` (`route`);--> statement-breakpoint
CREATE TABLE `tenants` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`limits` text NOT NULL,
	`weight` real DEFAULT 1 NOT NULL,
	`state` text DEFAULT 'active' NOT NULL,
	`created_at` integer NOT NULL
);
