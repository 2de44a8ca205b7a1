//! The table of points: name, the latest hit that tests let it come to, and what is true at that instant.

/// One row a point. The number spreads the ends of a test run over the life of the server: a point that is passed with
/// every write may wait for its three hundredth pass, one that is passed once a start cannot.
macro_rules! points {
    ($($variant:ident, $name:literal, $hits:literal, $meaning:literal;)*) => {
        /// An instant at which the process can be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Point { $($variant,)* }

        impl Point {
            pub const ALL: &'static [Point] = &[$(Point::$variant,)*];

            /// `component.operation.instant`, unique.
            pub fn name(self) -> &'static str {
                match self { $(Point::$variant => $name,)* }
            }

            /// Name of the variant, as the source of its one place writes it.
            pub fn variant(self) -> &'static str {
                match self { $(Point::$variant => stringify!($variant),)* }
            }

            /// Latest hit at which tests let the process end.
            pub fn hits_max(self) -> u64 {
                match self { $(Point::$variant => $hits,)* }
            }

            /// What has happened and what has not.
            pub fn meaning(self) -> &'static str {
                match self { $(Point::$variant => $meaning,)* }
            }

            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|point| point.name() == name)
            }
        }
    };
}

points! {
    InitDirectoryMade, "init.directory.made", 1, "the data directory is there and empty";
    InitKeysMade, "init.keys.made", 1, "all keys are written, no database is";
    InitDatabaseMade, "init.database.made", 1, "schema and first token are durable, the token is in no file";
    InitTokenWritten, "init.token.written", 1, "the command line's token is written, the installation is not finished";
    InitConfigWritten, "init.config.written", 1, "everything is there but the file that says so";

    StoreOpenLocked, "store.open.locked", 1, "the directory is locked, the database is closed";
    StoreMigrationApplied, "store.migration.applied", 7, "one migration of those on the way up is applied and remembered in the open transaction";
    StoreMigrationReverted, "store.migration.reverted", 7, "one migration of those on the way down is reverted and forgotten in the open transaction";
    StoreMigrationComplete, "store.migration.complete", 1, "a change of the schema is complete in the open transaction, with all rights";
    StoreOpenMigrated, "store.open.migrated", 1, "the schema is up to date, nothing reads or writes yet";
    StoreBatchTaken, "store.batch.taken", 300, "the writer holds what waited, no transaction has begun";
    StoreTransactionBegun, "store.transaction.begun", 300, "a transaction is open and empty";
    StoreSavepointBegun, "store.savepoint.begun", 300, "one operation of a batch is about to run";
    StoreOperationDone, "store.operation.done", 300, "the operation ran, its savepoint is open";
    StoreSavepointUndone, "store.savepoint.undone", 2, "a refused operation was taken back, the batch goes on";
    StoreSavepointReleased, "store.savepoint.released", 300, "the operation is part of the transaction";
    StoreCommitBefore, "store.commit.before", 300, "everything is written and sealed, nothing is durable";
    StoreCommitAfter, "store.commit.after", 300, "the batch is durable, nobody knows";
    StoreNoticesSent, "store.notices.sent", 300, "others woke up for the batch, its callers wait";
    StoreAnswerFirst, "store.answer.first", 300, "one caller of the batch has its answer, the others wait";

    StoreSpoolWritten, "store.spool.written", 6, "records are in the file beside the database, and not on the disk";
    StoreSpoolSynced, "store.spool.synced", 6, "records are durable beside the database, their caller has no answer";
    StoreSpoolDrained, "store.spool.drained", 6, "records that waited are durable in the database, nobody knows";
    StoreSpoolCleared, "store.spool.cleared", 1, "a start has put what waited into the log, the files are still there";

    AuditTailLoaded, "audit.tail.loaded", 1, "the end of the log was checked at the start";
    AuditSealBegun, "audit.seal.begun", 150, "the operations are done, their records have no place";
    AuditRecordsWritten, "audit.records.written", 150, "records are written without a checkpoint";
    AuditCheckpointWritten, "audit.checkpoint.written", 150, "the checkpoint is written or on its way, the tail is the old one";
    AuditTailWritten, "audit.tail.written", 150, "the log is complete in the open transaction";
    AuditTailSettled, "audit.tail.settled", 150, "the durable tail is the one in memory";

    TasksSubmitInserted, "tasks.submit.inserted", 30, "a task has a row and no event";
    TasksSubmitAnnounced, "tasks.submit.announced", 30, "row, event and record of a task are in the open transaction";
    TasksClaimTaken, "tasks.claim.taken", 10, "tasks are leased in the open transaction, without an event";
    TasksClaimWritten, "tasks.claim.written", 10, "the claim is complete in the open transaction";
    TasksRenewHalf, "tasks.renew.half", 2, "one of several leases is renewed";
    TasksSaveUpdated, "tasks.save.updated", 60, "a task changed its state without an event";
    TasksSaveAnnounced, "tasks.save.announced", 60, "state and event of a change are written, its record is not";
    TasksCompleteUpdated, "tasks.complete.updated", 20, "a task is completed without an event";
    TasksFinishDecided, "tasks.finish.decided", 8, "how an attempt fell short is decided and not written";
    TasksFinishWritten, "tasks.finish.written", 20, "the end of an attempt is complete in the open transaction";
    TasksProgressNumbered, "tasks.progress.numbered", 4, "a progress event has its number and no row";
    TasksStepInserted, "tasks.step.inserted", 80, "a step is started in the open transaction";
    TasksStepAgain, "tasks.step.again", 1, "a step of an earlier attempt is started again in the open transaction";
    TasksStepFinished, "tasks.step.finished", 80, "a step is done, its event is missing";
    TasksCancelMarked, "tasks.cancel.marked", 2, "a cancel is written on the task and not saved";
    TasksRetryReleased, "tasks.retry.released", 1, "steps in doubt may be sent again, their task still waits";
    TasksRedriveReset, "tasks.redrive.reset", 1, "a dead letter is reset and not saved";
    TasksFireSubmitted, "tasks.fire.submitted", 2, "the task of a firing is there, its guard row is not";
    TasksFireGuarded, "tasks.fire.guarded", 2, "the firing has task and guard, the schedule still points at it";
    TasksFireAdvanced, "tasks.fire.advanced", 2, "the schedule points at its next firing";
    TasksRecoverOne, "tasks.recover.one", 1, "a start has given back one lease of several";
    TasksRecoverDone, "tasks.recover.done", 1, "a start has given back all leases, durably";
    TasksSweepLate, "tasks.sweep.late", 1, "a task is past its deadline and has not ended";
    TasksSweepEnded, "tasks.sweep.ended", 1, "the deadline has ended a task in the open transaction";
    TasksSweepWoken, "tasks.sweep.woken", 3, "agents are about to hear that tasks became ready";

    MonitorRefusalRecorded, "monitor.refusal.recorded", 2, "a refused call is in the log, its worker does not know";
    MonitorCallDecided, "monitor.call.decided", 60, "a call passed every check and left no trace";
    MonitorLocalActed, "monitor.local.acted", 40, "a change of our own store is made, its step and record are not";
    MonitorLocalRecorded, "monitor.local.recorded", 40, "change, step and record are in the open transaction";
    MonitorIntentRecorded, "monitor.intent.recorded", 20, "step and intent are in the open transaction";
    MonitorIntentDurable, "monitor.intent.durable", 20, "the intent is durable, nothing was sent";
    MonitorEffectReturned, "monitor.effect.returned", 20, "the world answered, nobody has written it down";
    MonitorOutcomeRecorded, "monitor.outcome.recorded", 20, "the outcome is in the open transaction";
    MonitorOutcomeDurable, "monitor.outcome.durable", 20, "the outcome is durable, the worker does not know";
    MonitorEgressRefusalRecorded, "monitor.egress-refusal.recorded", 1, "a refused connection is in the log, the proxy does not know";
    MonitorEgressIntentRecorded, "monitor.egress-intent.recorded", 4, "the intent of a connection is in the open transaction";
    MonitorEgressIntentDurable, "monitor.egress-intent.durable", 4, "the intent of a connection is durable, the proxy does not know";
    MonitorEgressOutcomeDurable, "monitor.egress-outcome.durable", 4, "the end of a connection is durable";

    MonitorModelIntentDurable, "monitor.model-intent.durable", 6, "the intent of a model call is durable, its answer has not left";
    MonitorModelOutcomeRecorded, "monitor.model-outcome.recorded", 10, "the outcome of a model call is in the open transaction";
    MonitorModelOutcomeDurable, "monitor.model-outcome.durable", 10, "the outcome of a model call is durable, its answer has not left";

    ModelsAttemptHeld, "models.attempt.held", 10, "a budget holds what an attempt at a provider can cost, nothing was sent";
    ModelsRequestReady, "models.request.ready", 10, "a request to a provider is complete and not sent";
    ModelsAnswerReturned, "models.answer.returned", 6, "the whole answer of a provider is in memory alone, its cost is not settled";
    ModelsStreamBegun, "models.stream.begun", 4, "the first event of a stream is here, its client has nothing";
    ModelsStreamEnded, "models.stream.ended", 4, "a stream has ended, its cost is not settled and its last event has not left";
    ModelsCostSettled, "models.cost.settled", 10, "what an attempt has cost is settled in memory, its outcome is not recorded";

    ToolsFetchReady, "tools.fetch.ready", 12, "a request is complete and not sent";
    ToolsFetchReturned, "tools.fetch.returned", 12, "the answer to a request is in memory alone";
    ToolsWebhookReady, "tools.webhook.ready", 3, "a webhook is signed and not sent";
    ToolsWebhookReturned, "tools.webhook.returned", 3, "a webhook was answered, in memory alone";
    ToolsKvWritten, "tools.kv.written", 6, "a value is written in the open transaction";
    ToolsNotifyPublished, "tools.notify.published", 2, "a notification is written without its event";
    ToolsFileRead, "tools.file.read", 2, "a file was read, its step is open";

    SupervisorSpawned, "supervisor.process.spawned", 1, "a process exists and has no order";
    SupervisorReady, "supervisor.worker.ready", 1, "the worker is ready, its agent's row does not say so";
    SupervisorClaimed, "supervisor.tasks.claimed", 6, "tasks are leased, their worker does not know";
    SupervisorAssigned, "supervisor.tasks.assigned", 6, "the worker was told of its tasks";
    SupervisorCallReceived, "supervisor.call.received", 60, "a call came in and was not looked at";
    SupervisorCallAnswered, "supervisor.call.answered", 60, "the worker was answered";
    SupervisorEndingReceived, "supervisor.ending.received", 12, "the worker has ended a task, nothing is written";
    SupervisorEndingWritten, "supervisor.ending.written", 12, "the end of a task is durable, its slot is not free";
    SupervisorCancelSent, "supervisor.cancel.sent", 1, "the worker was told to cancel";
    SupervisorWorkerGone, "supervisor.worker.gone", 1, "a worker has died with its tasks";
    SupervisorTaskGivenBack, "supervisor.task.given-back", 1, "a dead worker's task waits again, durably";
    SupervisorStateWritten, "supervisor.state.written", 3, "a change of an agent's state is durable, its actor has not heard";
    SupervisorInstalled, "supervisor.deploy.installed", 1, "a new version is durable and does not run";

    KernelFilesInstalled, "kernel.deploy.files", 1, "a package lies in its place, no row names it";
    KernelSubmitDurable, "kernel.submit.durable", 25, "a task is durable, its submitter has no answer";
    KernelCancelDurable, "kernel.cancel.durable", 1, "a cancel is durable, whoever asked has no answer";
    KernelRetryDurable, "kernel.retry.durable", 1, "a person's word is durable and not answered";
    SecretsVersionInserted, "secrets.rotate.inserted", 1, "a secret has a new value, its change is not committed";
    SecretsChanged, "secrets.rotate.durable", 1, "a secret's change is durable, the redactor does not know it";
    IdentityTokenInserted, "identity.token.inserted", 1, "a token is written, its change is not committed";

    ServerGatewayBound, "server.gateway.bound", 1, "the port is taken, nothing of the start is in the log";
    ServerStartRecorded, "server.start.recorded", 1, "the start is in the log, leases are not given back";
    ServerAgentsStarted, "server.agents.started", 1, "agents run, the gateway is closed";
    ServerStopAgentsEnded, "server.stop.agents-ended", 1, "all agents have ended, their leases are not given back";
    ServerStopGivenBack, "server.stop.given-back", 1, "the leases are given back, the process has not ended";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_unique_and_well_formed() {
        let names: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        for point in Point::ALL {
            let parts: Vec<&str> = point.name().split('.').collect();
            assert_eq!(parts.len(), 3, "{}", point.name());
            assert!(
                parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
            );
            assert!(point.hits_max() > 0 && !point.meaning().is_empty(), "{}", point.name());
            assert_eq!(Point::parse(point.name()), Some(*point));
        }
        assert_eq!(Point::parse("store.commit"), None);
    }
}
