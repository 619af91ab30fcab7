/** Stubs of the classes that the configuration names, for Workers that share it with Portico but do not use them. */
import { DurableObject, WorkflowEntrypoint } from "cloudflare:workers";

export class Card extends DurableObject {}
export class Pool extends DurableObject {}
export class Tenant extends DurableObject {}
export class Job extends DurableObject {}
export class Backlog extends DurableObject {}
export class Idempotency extends DurableObject {}
export class Courier extends DurableObject {}
export class RunJob extends WorkflowEntrypoint {}
