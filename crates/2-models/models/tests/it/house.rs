//! The real parts around the engine, with a router that tries its targets in their order.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentos_authority::{Authorized, GrantSet, Party, Program};
use agentos_base::{Ambient, Background, ambient::FakeClock, redact::Redactor};
use agentos_catalog::{Catalog, Price, Rates};
use agentos_dialer::{Reach, SystemResolver, Tls};
use agentos_ledger::{Budget, Ledger, LedgerOptions, Origin, Payer};
use agentos_models::{
    Body, Course, Engine, EngineOptions, Keys, ModelCall, Operation, Policy, Reply, Routing, Upstream, UpstreamOptions,
    reply_of,
};
use agentos_monitor::{Call, Executors, ModelStart, Monitor, Rules};
use agentos_router::{Asked, Caching, Config, Document, Kind, Observed, Router, Target, Waits};
use agentos_scratch::{Backend, Scratch};
use agentos_secrets::SecretString;
use agentos_store::{Conn, Database, Sequencer, Store, StoreOptions, Tx};
use agentos_tasks::{Tasks, TasksOptions};
use agentos_types::{
    Actor, Category, Code, Fault, Grant, Result, SecretName, TaskId, Timestamp,
    audit::AuditEvent,
    budget::{BudgetUnit, Period},
};
use agentos_wire::{Class, Failure, emulate::Lacks};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::provider::Provider;

const NOON: Timestamp = Timestamp(1_795_428_030_000_000);
pub const TOKEN: &str = "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E";

/// What the secret `access-key` holds: the key of AWS's own examples.
pub const ACCESS_KEY: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// What the audit log was given; refuses when told so.
#[derive(Clone, Default)]
pub struct Log {
    pub events: Arc<Mutex<Vec<AuditEvent>>>,
    pub refuses: Arc<Mutex<Option<&'static str>>>,
}

impl Sequencer for Log {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        if let Some(phase) = *self.refuses.lock().unwrap()
            && events.iter().any(|event| event.phase.as_str() == phase)
        {
            return Err(Fault::new(Code::AUDIT_UNAVAILABLE, "the log is away"));
        }
        self.events.lock().unwrap().extend_from_slice(events);
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

struct NoTools;

#[async_trait]
impl Executors for NoTools {
    fn local(&self, _: &mut Tx<'_>, _: Authorized<Call>) -> Result<Value> {
        Err(Fault::internal("no tools here"))
    }
    async fn outward(&self, _: Authorized<Call>) -> Result<Value> {
        Err(Fault::internal("no tools here"))
    }
}

struct OneKey;

#[async_trait]
impl Keys for OneKey {
    async fn reveal(&self, name: &SecretName) -> Result<SecretString> {
        Ok(SecretString::from(match name.as_str() {
            "access-key" => ACCESS_KEY.to_owned(),
            name => format!("the-value-of-{name}"),
        }))
    }
}

/// Each target once, in order; a second time for what may pass.
#[derive(Default)]
pub struct InOrder {
    pub targets: Vec<Target>,
    pub reports: Reports,
    pub caching: Arc<Mutex<Option<Caching>>>,
}

/// What was told of the targets: `answered`, `nothing`, or the class of a failure.
pub type Reports = Arc<Mutex<Vec<String>>>;

struct Line {
    rest: std::vec::IntoIter<Target>,
    reports: Reports,
}

impl Routing for InOrder {
    fn plan(&self, _: &Asked<'_>) -> Result<Box<dyn Course>, Fault> {
        Ok(Box::new(Line { rest: self.targets.clone().into_iter(), reports: self.reports.clone() }))
    }
    fn names(&self) -> Vec<(String, String)> {
        self.targets.iter().map(|target| (target.id.clone(), target.provider.clone())).collect()
    }
    fn caching(&self, _: &Payer) -> Option<Caching> {
        *self.caching.lock().unwrap()
    }
}

impl Course for Line {
    fn next(&mut self, last: Option<&Failure>, _: Timestamp) -> Option<Target> {
        if let Some(failure) = last {
            self.reports.lock().unwrap().push(failure.class.to_string());
        }
        let is_final = last.is_some_and(|failure| {
            matches!(failure.class, Class::BadRequest | Class::ContextOverflow | Class::ContentFilter)
        });
        if is_final { None } else { self.rest.next() }
    }
    fn hedge(&mut self, _: Timestamp) -> Option<Target> {
        self.rest.next()
    }
    fn report(&mut self, _: &Target, observed: Observed<'_>, _: Timestamp) {
        self.reports.lock().unwrap().push(match observed {
            Observed::Answered { .. } => "answered".into(),
            Observed::Failed(failure) => failure.class.to_string(),
            Observed::Nothing => "nothing".into(),
        });
    }
}

pub struct House {
    pub engine: Engine,
    pub monitor: Monitor,
    pub ledger: Ledger,
    pub log: Log,
    pub ambient: Ambient,
    pub clock: Arc<FakeClock>,
    pub reports: Reports,
    pub party: Party,
    pub background: Background,
    pub tasks: Tasks,
    pub store: Store,
    pub redactor: Redactor,
    /// What the operator says about answers that are given again.
    pub caching: Arc<Mutex<Option<Caching>>>,
    routing: Arc<dyn Routing>,
    urls: Vec<String>,
    policy: Policy,
    _scratch: Scratch,
    directory: tempfile::TempDir,
}

/// What a house is made of.
struct Plan {
    backend: Backend,
    /// Without it the targets are tried in their order.
    router: Option<Router>,
    targets: Vec<Target>,
    policy: Policy,
    upstream: Upstream,
}

pub fn target(kind: Kind, provider: &Provider) -> Target {
    // Ten for a token of input, twenty for one of output.
    let price = Price::flat(Rates { input: 10_000, output: 20_000, ..Rates::default() });
    Target {
        id: format!("{kind}/m1"),
        route: None,
        provider: kind.to_string(),
        kind,
        protocol: kind.protocols()[0],
        api_version: None,
        sigv4_region: None,
        key_group: "main".into(),
        drop_fields: Arc::default(),
        price_is_assumed: false,
        attempt: 1,
        is_continuation: false,
        may_continue: false,
        image_tokens: 1_000,
        hedge_after: None,
        base_url: format!("http://{}/v1", provider.address),
        model: "real-m1".into(),
        key: Some("provider-key".parse().unwrap()),
        headers: Arc::default(),
        price: Some(Arc::new(price)),
        context: Some(8_000),
        output_max: Some(1_000),
        emulate: Lacks::default(),
        is_whole_only: false,
        waits: Waits {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(20),
            idle: Duration::from_secs(20),
            whole: Duration::from_secs(20),
        },
        pause: Duration::ZERO,
    }
}

impl House {
    pub async fn new(targets: Vec<Target>) -> Self {
        Self::with(targets, Policy::default()).await
    }

    pub async fn with(targets: Vec<Target>, policy: Policy) -> Self {
        let upstream = upstream_to(targets.iter().map(|target| target.base_url.as_str()));
        Self::open(Plan { backend: Backend::Sqlite, router: None, targets, policy, upstream }).await
    }

    pub async fn through(targets: Vec<Target>, upstream: Upstream) -> Self {
        Self::open(Plan { backend: Backend::Sqlite, router: None, targets, policy: Policy::default(), upstream }).await
    }

    pub async fn on(backend: Backend, targets: Vec<Target>) -> Self {
        let upstream = upstream_to(targets.iter().map(|target| target.base_url.as_str()));
        Self::open(Plan { backend, router: None, targets, policy: Policy::default(), upstream }).await
    }

    /// With the real router over this document.
    pub async fn routed(backend: Backend, document: &str) -> Self {
        let document = Document::from_toml(document).unwrap();
        let upstream = upstream_to(urls_of(&document).iter().map(String::as_str));
        let router = Some(Router::new(Config::new(document, Catalog::vendored().unwrap(), 1).unwrap()));
        Self::open(Plan { backend, router, targets: Vec::new(), policy: Policy::default(), upstream }).await
    }

    async fn open(plan: Plan) -> Self {
        let Plan { backend, router, targets, policy, upstream } = plan;
        let scratch = backend.scratch();
        let urls = match &router {
            None => targets.iter().map(|target| target.base_url.clone()).collect(),
            Some(router) => urls_of(router.config().document()),
        };
        let (ambient, clock) = Ambient::fake(7, NOON);
        let directory = tempfile::tempdir().unwrap();
        let log = Log::default();
        let store = Store::open(StoreOptions {
            directory: directory.path().to_owned(),
            database: scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap()),
            queue_max: 1_024,
            readers: 2,
            sequencer: Some(Box::new(log.clone())),
            ambient: ambient.clone(),
        })
        .unwrap();
        let tasks = Tasks::new(store.clone(), ambient.clone(), tasks_options());
        let (tools, redactor) = (Box::new(NoTools), Redactor::default());
        let monitor =
            Monitor::new(store.clone(), tasks.clone(), ambient.clone(), tools, redactor.clone(), Rules::default())
                .holding(Duration::from_millis(300));
        let options = LedgerOptions { store: store.clone(), ambient: ambient.clone(), node: "a".into() };
        let ledger = Ledger::open(options).await.unwrap();
        let reports = Arc::new(Mutex::default());
        let background = Background::default();
        let caching = Arc::new(Mutex::new(None));
        let routing: Arc<dyn Routing> = match router {
            Some(router) => Arc::new(router),
            None => Arc::new(InOrder { targets, reports: reports.clone(), caching: caching.clone() }),
        };
        let engine = Engine::new(EngineOptions {
            routing: routing.clone(),
            ledger: ledger.clone(),
            keys: Arc::new(OneKey),
            upstream,
            store: store.clone(),
            node: "a".into(),
            ambient: ambient.clone(),
            background: background.clone(),
            policy: policy.clone(),
        });
        let grant = Grant { category: Category::Model, actions: vec!["call".into()], resources: vec!["*".into()] };
        let party = Party::Program(Program {
            token: TOKEN.parse().unwrap(),
            name: "ci".into(),
            grants: Arc::new(GrantSet::compile(&[grant]).unwrap()),
        });
        Self {
            engine,
            monitor,
            ledger,
            log,
            ambient,
            clock,
            reports,
            party,
            background,
            tasks,
            store,
            redactor,
            caching,
            routing,
            urls,
            policy,
            _scratch: scratch,
            directory,
        }
    }

    /// An engine that knows nothing but what the store holds, as after a restart or on another node.
    pub fn other_engine(&self, node: &str) -> Engine {
        Engine::new(EngineOptions {
            routing: self.routing.clone(),
            ledger: self.ledger.clone(),
            keys: Arc::new(OneKey),
            upstream: upstream_to(self.urls.iter().map(String::as_str)),
            store: self.store.clone(),
            node: node.into(),
            ambient: self.ambient.clone(),
            background: self.background.clone(),
            policy: self.policy.clone(),
        })
    }

    /// A call under an idempotency key.
    pub fn keyed(&self, key: &str, body: &Value) -> ModelCall {
        let mut call = self.call(Operation::Chat, &body.to_string());
        call.idempotency_key = Some(key.to_owned());
        call
    }

    pub fn call(&self, operation: Operation, body: &str) -> ModelCall {
        let payer = Payer { token: Some(TOKEN.parse().unwrap()), ..Payer::default() };
        let body = Bytes::copy_from_slice(body.as_bytes());
        ModelCall::read(operation, body, self.ambient.request_id(), payer).unwrap()
    }

    /// As somebody else's.
    pub fn call_of(&self, token: &str, mut call: ModelCall) -> ModelCall {
        call.payer = Payer { token: Some(token.parse().unwrap()), ..Payer::default() };
        call
    }

    pub async fn ask(&self, operation: Operation, body: &str) -> Reply {
        self.run(self.call(operation, body)).await
    }

    pub async fn chat(&self, body: Value) -> Reply {
        self.ask(Operation::Chat, &body.to_string()).await
    }

    pub async fn run(&self, call: ModelCall) -> Reply {
        self.run_as(&self.party, None, call).await
    }

    pub async fn run_as(&self, party: &Party, task: Option<&TaskId>, call: ModelCall) -> Reply {
        let (operation, request_id) = (call.operation, call.request_id.clone());
        match self.monitor.model(party, task, call).await {
            Ok(ModelStart::Go(pass)) => self.engine.run(pass).await,
            Ok(ModelStart::Recorded(answer)) => self.engine.recorded(operation, &request_id, &answer),
            Err(fault) => reply_of(operation, &request_id, &fault),
        }
    }

    /// Sets a budget of the token for a day.
    pub async fn budget(&self, unit: BudgetUnit, amount: i64) {
        let scope = format!("token:{TOKEN}").parse().unwrap();
        let budget = Budget {
            scope,
            period: Period::Day,
            unit,
            origin: Origin::Operator,
            amount,
            set_by: "token:x".into(),
            set_at: NOON,
        };
        self.ledger.set(&Actor::System, budget).await.unwrap();
    }

    /// Used and reserved of the one budget.
    pub async fn stands(&self) -> (i64, i64) {
        let standing = self.ledger.standing(None).await.unwrap();
        (standing[0].used, standing[0].reserved)
    }

    /// No record is durable before the log has it: no file can be made in which it would wait.
    pub fn record_by_commit(&self) {
        std::fs::create_dir(self.directory.path().join("audit-spool.0")).unwrap();
    }

    /// What is in the file of records that wait.
    pub fn waiting(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("audit-spool.0")).unwrap()
    }

    /// The records of calls that were sealed: phase, end, facts.
    pub fn records(&self) -> Vec<(String, Value)> {
        let events = self.log.events.lock().unwrap();
        let of_models = events.iter().filter(|event| event.action == "model.call");
        of_models.map(|event| (event.phase.as_str().to_owned(), json!(event.facts))).collect()
    }

    pub async fn outcome(&self) -> Value {
        self.store.settle().await;
        let records = self.records();
        assert_eq!(records.iter().map(|(phase, _)| phase.as_str()).collect::<Vec<_>>(), ["intent", "outcome"]);
        records[1].1.clone()
    }
}

fn urls_of(document: &Document) -> Vec<String> {
    document.providers.values().filter_map(|place| place.base_url.clone()).collect()
}

/// Which goes to the hosts of these addresses, though they are private.
fn upstream_to<'a>(urls: impl Iterator<Item = &'a str>) -> Upstream {
    let private_exceptions = urls.map(|url| {
        let rest = url.split_once("://").unwrap().1;
        rest.split('/').next().unwrap().parse().unwrap()
    });
    Upstream::new(UpstreamOptions {
        reach: Reach::new(Arc::new(SystemResolver::default())),
        tls: Tls::new(&[]).unwrap(),
        private_exceptions: private_exceptions.collect(),
    })
}

pub fn hello(stream: bool) -> Value {
    json!({"model": "fast", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50, "stream": stream})
}

pub fn answer() -> String {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "real-m1", "x": {"kept": [1, 2.50]},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}})
    .to_string()
}

pub fn header<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
    reply.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

pub fn whole(reply: Reply) -> String {
    match reply.body {
        Body::Whole(body) => String::from_utf8(body.to_vec()).unwrap(),
        Body::Stream(_) => panic!("a stream"),
    }
}

pub fn parsed(reply: Reply) -> Value {
    serde_json::from_str(&whole(reply)).unwrap()
}

pub async fn streamed(reply: Reply) -> String {
    let Body::Stream(mut receiver) = reply.body else { panic!("no stream but {:?}", reply.body) };
    let mut text = String::new();
    while let Some(piece) = receiver.recv().await {
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    text
}

fn tasks_options() -> TasksOptions {
    TasksOptions {
        node: "a".into(),
        attempts_max: 3,
        lease: Duration::from_secs(30),
        queue_max: 100,
        interval_min: Duration::from_secs(1),
    }
}
