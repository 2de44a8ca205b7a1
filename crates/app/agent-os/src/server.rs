//! The server: opens what lies in the data directory, binds every port to its implementation, runs until it is told to
//! stop. The order is the order of trust: checks, log, secrets, kernel, agents, and only then the door opens. Its address is
//! taken before the first agent lives.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentos_api::Models;
use agentos_audit::{AuditLog, LogWriter, Upkeep};
use agentos_base::{
    Ambient, Background, Loops, Room,
    config::{self, Config},
    redact::Redactor,
    telemetry::{self, LogFile},
};
use agentos_cli::{ServerFile, UpOptions, UpReport};
use agentos_dialer::{Dialer, DialerOptions, HostPort};
use agentos_failpoint::{Point, hit};
use agentos_gateway::{Gateway, GatewayOptions, ModelEdge, Ports, TakenAddress};
use agentos_identity::Tokens;
use agentos_ledger::{Ledger, LedgerOptions};
use agentos_monitor::{Bounds, Monitor, Rules};
use agentos_secrets::{Secrets, SecretsKey};
use agentos_store::{Store, StoreOptions};
use agentos_supervisor::{Commands, Quarters, Supervisor, SupervisorOptions};
use agentos_tasks::{
    Tasks, TasksOptions,
    retention::{Policy, Retention},
};
use agentos_tools::{BuiltinTools, Outgoing};
use agentos_trust::TrustRoot;
use agentos_types::{Actor, Fault, Result, audit::AuditEvent, machine::Machine};
use agentos_witness::PublisherParts;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

use crate::{
    checks, descriptors, egress, install,
    install::Installation,
    kernel::{
        ServerKernel, budgets,
        packages::{Installing, Packages},
        retention,
    },
    layout::Layout,
    log_key::LogKeyFiles,
    model_access::{LateModels, ServedModels},
    model_config::ModelDocument,
    model_doors::ServedDoors,
    models::{self, EngineParts, ServerModels},
    programs,
    sandboxes::Walls,
    syscalls::MonitoredSyscalls,
    traces::Traces,
    witness,
    workshop::SupervisedWorkshop,
};

/// Background work gets this long to end after agents and gateway have.
const BACKGROUND_GRACE: Duration = Duration::from_secs(5);

/// Runs in the foreground until SIGTERM or SIGINT.
pub async fn run(options: UpOptions, ready: oneshot::Sender<UpReport>) -> Result<()> {
    let layout = Layout::new(&options.data_dir);
    let installation = Installation::load(&layout)?;
    let mut source = options.source;
    if let Some(port) = options.port {
        source.flags.push(("gateway.listen".into(), with_port(&layout, &source, port)?));
    }
    let config = config::load(&layout.config(), &source)?;
    let redactor = Redactor::default();
    let file =
        LogFile { path: layout.server_log(), bytes_max: config.log_file_bytes_max(), kept: config.log_files_max() };
    telemetry::install(config.log_level(), config.log_format(), redactor.clone(), Ambient::system(), Some(file));

    let traces = Traces::begin(&config, &installation, &redactor)?;
    let server = Server::open(config, layout, installation, traces.ambient.clone(), redactor).await?;
    let stop = stop_signal()?;
    let outcome = server.serve(ready, stop).await;
    // Last of all, so that the spans of the shutdown itself leave as well.
    traces.end().await;
    outcome
}

/// All parts, bound to each other.
struct Server {
    kernel: Arc<ServerKernel>,
    gateway: Gateway,
    background: Background,
    /// To the very end: what a connection has begun may outlive the gateway.
    loops: Loops,
    /// Of the gateway, if it has one.
    certificate: Option<PathBuf>,
}

impl Server {
    async fn open(
        config: Config,
        layout: Layout,
        installation: Installation,
        ambient: Ambient,
        redactor: Redactor,
    ) -> Result<Self> {
        let started_at = ambient.now();
        let launcher = programs::launcher()?;
        let walls = Walls::open(&config, &layout, &launcher, &installation.node);
        let machine = match &walls {
            Ok(walls) => Ok(walls.examine().await),
            // A start that fails all the same says everything that it found.
            Err(_) => match Walls::survey(&config, &layout, &launcher) {
                Ok(walls) => Ok(walls.examine().await),
                Err(fault) => Err(fault),
            },
        };
        let checks = checks::run(&layout, &config, &ambient, &launcher, &machine);
        checks::enforce(&checks, config.enforce_production_hardening())?;
        let (walls, machine) = (walls?, Arc::new(machine?));
        // Before the first agent takes some.
        let open_files = descriptors::raise();

        let background = Background::default();
        let database = install::database(&config)?;
        redactor.keep(database.iter().flat_map(|database| database.passwords()));
        let identity = installation.log_identity(&layout)?;
        let store = Store::open(StoreOptions {
            directory: layout.root().to_owned(),
            database,
            queue_max: config.store_queue_max(),
            readers: config.store_readers(),
            sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
            ambient: ambient.clone(),
        })?;
        install::require_own(&store, &installation.node).await?;
        let secrets_key = SecretsKey::new(install::secrets_key(&layout)?);
        let secrets = Secrets::open(store.clone(), ambient.clone(), secrets_key, redactor.clone()).await?;
        let dialer = Dialer::new(dialer_options(&config)?)?;
        let parts = PublisherParts {
            store: store.clone(),
            ambient: ambient.clone(),
            identity: identity.clone(),
            dialer: dialer.clone(),
            secrets: secrets.clone(),
        };
        let witnesses = witness::open(&config, &layout, &installation, parts).await?;
        // Only now: a database that the witnesses refuse must not decide which key of the log is taken away.
        let log_keys = LogKeyFiles::new(&layout);
        log_keys.settle(&identity)?;
        let tasks = Tasks::new(store.clone(), ambient.clone(), tasks_options(&config, &installation));
        let propagate_to = targets(&config.trace_propagate_to())?;
        let outgoing = Outgoing { dialer: dialer.clone(), ambient: ambient.clone(), propagate_to };
        let quarters = Quarters::default();
        let commands =
            Commands { sandboxes: walls.sandboxes.clone(), host: walls.host.clone(), quarters: quarters.clone() };
        let late_models = LateModels::default();
        let model_room = Room::new(config.models_held_bytes_max()?);
        let tools = BuiltinTools {
            outgoing,
            secrets: secrets.clone(),
            tasks: tasks.clone(),
            ambient: ambient.clone(),
            workshop: Arc::new(SupervisedWorkshop(commands)),
            models: Arc::new(ServedModels {
                models: late_models.clone(),
                ambient: ambient.clone(),
                room: model_room.clone(),
            }),
        };
        let rules =
            Rules { bounds: Bounds::new(config.tools_allowed_commands().as_deref())?, egress: egress::rules(&config)? };
        let monitor =
            Monitor::new(store.clone(), tasks.clone(), ambient.clone(), Box::new(tools), redactor.clone(), rules);

        let audit = AuditLog::new(identity, store.clone(), layout.root());
        let upkeep = Upkeep::new(audit.clone(), ambient.clone());
        let installing = Installing::default();
        let packages = Packages {
            directory: layout.packages(),
            days: config.retention_package_days(),
            installing: installing.clone(),
            ambient: ambient.clone(),
        };
        let retention = retention_of(&config, &store, &ambient, &upkeep, packages);
        if let Err(fault) = retention.prepare().await {
            // What is written meanwhile lies in the net and moves later.
            tracing::warn!(code = %fault.code, detail = fault.detail, "the coming days could not be opened");
        }
        let certificate = config.gateway_tls()?.map(|(certificate, _)| certificate);
        let trust = TrustRoot::load(&layout.trust_root())?;
        // Nothing has happened yet: a start that cannot be reached, or has no certificate, costs no task an attempt.
        let (door, address) =
            (gateway_options(&config, open_files, model_room.clone())?, TakenAddress::take(config.gateway_listen()?)?);
        hit(Point::ServerGatewayBound);
        record_start(&store, &ambient).await?;
        hit(Point::ServerStartRecorded);
        witnesses.record_contradictions().await?;
        tasks.recover().await?;
        hit(Point::TasksRecoverDone);
        let options = LedgerOptions { store: store.clone(), ambient: ambient.clone(), node: installation.node.clone() };
        let notices = store.subscribe();
        let ledger = Ledger::open(options).await?;
        budgets::enrol_all(&ledger, &store).await?;
        let document_notices = store.subscribe();
        let document = ModelDocument::open(store.clone(), ambient.clone()).await?;
        let parts = EngineParts {
            router: document.router.clone(),
            ledger: ledger.clone(),
            secrets: secrets.clone(),
            store: store.clone(),
            node: installation.node.clone(),
            ambient: ambient.clone(),
            background: background.clone(),
        };
        let engine = models::open_engine(&config, parts)?;
        if let Some(interval) = config.models_probe_interval() {
            background.spawn("models-probes", engine.clone().look_around(document.router.clone(), interval));
        }
        let models: Arc<dyn Models> =
            Arc::new(ServerModels::new(engine, monitor.clone(), quarters.clone(), ledger.clone())?);
        late_models.bind(models.clone());
        let ways_out = egress::start(&config, &layout, &walls, &monitor, &secrets, &background)?;
        let egress = ways_out.as_ref().map(|ways| ways.egress.clone());
        let mut options = supervisor_options(&config, &layout, walls, machine.clone(), quarters.clone(), redactor);
        options.ways_out = ways_out;
        let edge = edge(&config, models.clone(), (&ambient, &background, &door.loops), model_room);
        let model_edge = edge.counts.clone();
        options.model_doors = Some(Arc::new(ServedDoors { edge, router: document.router.clone() }));
        let supervisor = Supervisor::start(
            options,
            store.clone(),
            tasks.clone(),
            ambient.clone(),
            background.clone(),
            Arc::new(MonitoredSyscalls(monitor.clone())),
        )
        .await?;
        background.spawn("tasks", tasks.clone().run(background.shutdown()));
        witnesses.publisher.spawn(&background);
        background.spawn("budgets", ledger.clone().run(background.shutdown()));
        background
            .spawn("budgets-follow", budgets::follow(ledger.clone(), store.clone(), notices, background.shutdown()));
        background.spawn("models-follow", document.clone().follow(document_notices, background.shutdown()));
        background.spawn("retention", retention.clone().run(background.shutdown()));
        hit(Point::ServerAgentsStarted);

        background.spawn("audit-clear", clear_pruned(upkeep.clone(), background.shutdown()));
        let kernel = Arc::new(ServerKernel {
            audit,
            upkeep,
            installing,
            log_keys: log_keys.into(),
            audit_retention: config.retention_audit_log(),
            tokens: Tokens::new(store.clone(), ambient.clone()),
            trust,
            node: installation.node,
            ready: Arc::new(AtomicBool::new(false)),
            store,
            tasks,
            secrets,
            retention,
            supervisor,
            ledger,
            models: document,
            dialer,
            egress,
            model_edge,
            witnesses,
            ambient: ambient.clone(),
            layout,
            started_at,
            checks,
            machine,
        });
        let ports = Ports { kernel: kernel.clone(), models: Some(models) };
        let loops = door.loops.clone();
        let gateway = Gateway::new(address, door, ports, ambient, background.clone());
        Ok(Self { kernel, gateway, background, loops, certificate })
    }

    async fn serve(self, ready: oneshot::Sender<UpReport>, stop: oneshot::Receiver<()>) -> Result<()> {
        let Self { kernel, gateway, background, loops: _loops, certificate } = self;
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", reachable(gateway.local_addr()));
        let file = ServerFile {
            pid: std::process::id(),
            url: url.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: kernel.started_at,
            tls_cert_file: certificate,
        };
        background.spawn("gateway", gateway.serve());
        kernel.ready.store(true, Ordering::SeqCst);
        // Agents live: whatever fails from here on ends in the order of a stop.
        let announced = file.store(kernel.layout.root());
        if announced.is_ok() {
            tracing::info!(%url, node = %kernel.node, "ready");
            // In a detached start nobody may be listening any more.
            let _ = ready.send(UpReport { url, pid: file.pid, version: file.version.clone() });
            // The sender lives as long as the process; losing it would mean stop as well.
            let _ = stop.await;
        }
        tracing::info!("stopping");
        kernel.ready.store(false, Ordering::SeqCst);
        let agents_ended = kernel.supervisor.shutdown().await;
        let background_ended = background.stop(BACKGROUND_GRACE).await;
        kernel.ledger.close().await;
        hit(Point::ServerStopAgentsEnded);
        if agents_ended && background_ended {
            // In vain is as after a crash: the next start gives them back.
            if let Err(fault) = kernel.tasks.hand_back().await {
                tracing::warn!(%fault, detail = fault.detail, "leases were not given back");
            }
            hit(Point::ServerStopGivenBack);
        } else {
            tracing::warn!(agents_ended, background_ended, "stopped before everything had ended");
        }
        kernel.witnesses.publisher.finish().await;
        announced.and_then(|()| file.remove(kernel.layout.root()))
    }
}

/// The port of the command line in the address of the configuration.
fn with_port(layout: &Layout, source: &config::Source, port: u16) -> Result<String> {
    let configured = config::load(&layout.config(), source)?.gateway_listen()?;
    Ok(SocketAddr::new(configured.ip(), port).to_string())
}

/// An address that this machine reaches also when the server listens on all.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

fn stop_signal() -> Result<oneshot::Receiver<()>> {
    let handler = |kind| signal(kind).map_err(Fault::internal);
    let (mut terminate, mut interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    // A closed terminal is no reason to stop a detached server.
    let mut hangup = handler(SignalKind::hangup())?;
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {}
            }
        }
        let _ = sender.send(());
    });
    Ok(receiver)
}

async fn record_start(store: &Store, ambient: &Ambient) -> Result<()> {
    let event = AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "server.start", "server")
        .fact("version", env!("CARGO_PKG_VERSION"));
    store.record(event).await
}

/// A prune that was interrupted is brought to its end. Nobody waits for it: what was ordered to go is not shown any more.
async fn clear_pruned(upkeep: Upkeep, shutdown: CancellationToken) {
    let cleared = tokio::select! {
        // The next start goes on.
        () = shutdown.cancelled() => return,
        cleared = upkeep.clear() => cleared,
    };
    if let Err(fault) = cleared {
        tracing::warn!(code = %fault.code, message = fault.message, "what was pruned could not be deleted yet");
    }
}

fn tasks_options(config: &Config, installation: &Installation) -> TasksOptions {
    TasksOptions {
        node: installation.node.clone(),
        attempts_max: config.tasks_attempts_max(),
        lease: config.tasks_lease(),
        queue_max: config.tasks_queue_max(),
        interval_min: config.schedules_interval_min(),
    }
}

fn targets(texts: &[String]) -> Result<Vec<HostPort>> {
    texts.iter().map(|text| text.parse()).collect()
}

fn retention_of(config: &Config, store: &Store, ambient: &Ambient, upkeep: &Upkeep, packages: Packages) -> Retention {
    let policy = Policy {
        task_days: config.retention_task_days(),
        dead_letter_days: config.retention_dead_letter_days(),
        event_days: config.retention_event_days(),
        idempotency_days: config.retention_idempotency_days(),
        credential_days: config.retention_credential_days(),
        hour_utc: config.retention_hour_utc(),
    };
    let log = retention::LogDays { upkeep: upkeep.clone(), age: config.retention_audit_log() };
    let log = config.retention_prunes_audit_log().then_some(log);
    Retention::new(store.clone(), ambient.clone(), policy, retention::pruners(&policy, log, packages))
}

pub fn dialer_options(config: &Config) -> Result<DialerOptions> {
    let defaults = DialerOptions::default();
    Ok(DialerOptions {
        private_exceptions: targets(&config.dialer_private_exceptions())?,
        timeout_default: defaults.timeout_default.min(config.dialer_timeout_max()),
        timeout_max: config.dialer_timeout_max(),
        response_bytes_default: defaults.response_bytes_default.min(config.dialer_response_bytes_max()),
        response_bytes_max: config.dialer_response_bytes_max(),
        redirects_max: defaults.redirects_max,
        extra_roots: config.dialer_extra_roots(),
    })
}

fn supervisor_options(
    config: &Config,
    layout: &Layout,
    walls: Walls,
    machine: Arc<Machine>,
    quarters: Quarters,
    redactor: Redactor,
) -> SupervisorOptions {
    SupervisorOptions {
        sandboxes: walls.sandboxes,
        host: walls.host,
        cgroups: walls.cgroups,
        workspaces: walls.workspaces,
        machine,
        enforcement: walls.enforcement,
        first_host_id: walls.first_host_id,
        ways_out: None,
        model_doors: None,
        closed: vec![layout.root().to_owned()],
        packages: layout.packages(),
        cancel_grace: config.tasks_cancel_grace(),
        shutdown_grace: config.agents_shutdown_grace(),
        quarters,
        redactor,
    }
}

/// Where programs inside of sandboxes reach models.
fn edge(config: &Config, models: Arc<dyn Models>, kernel: (&Ambient, &Background, &Loops), room: Room) -> ModelEdge {
    let (ambient, background, loops) = kernel;
    ModelEdge {
        models,
        ambient: ambient.clone(),
        background: background.clone(),
        loops: loops.clone(),
        body_bytes_max: config.models_body_bytes_max(),
        room,
        request_timeout: config.gateway_request_timeout(),
        counts: Arc::default(),
    }
}

fn connections_max(config: &Config, limit: usize) -> usize {
    let wanted = config.gateway_connections_max();
    let granted = descriptors::for_connections(limit, wanted);
    if granted < wanted {
        tracing::warn!(limit, wanted, granted, "open files are limited; the gateway takes fewer connections");
    }
    granted
}

fn gateway_options(config: &Config, open_files: usize, model_room: Room) -> Result<GatewayOptions> {
    let tls = match config.gateway_tls()? {
        Some((certificate, key)) => Some(Arc::new(agentos_gateway::tls::server_config(&certificate, &key)?)),
        None => None,
    };
    Ok(GatewayOptions {
        tls,
        body_bytes_max: config.gateway_body_bytes_max(),
        model_body_bytes_max: config.models_body_bytes_max(),
        model_room,
        connections_max: connections_max(config, open_files),
        strangers_per_address_max: config.gateway_strangers_per_address_max(),
        requests_per_second: config.gateway_requests_per_second(),
        auth_failures_max: config.gateway_auth_failures_max(),
        request_timeout: config.gateway_request_timeout(),
        version: env!("CARGO_PKG_VERSION"),
        loops: Loops::start(config.gateway_busy_poll())?,
    })
}
