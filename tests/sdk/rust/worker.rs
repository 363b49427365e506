// A worker on the published Rust SDK: worker ENGINE_URL NAME.  The same program as ../workers/worker.py, which says more,
// but for streaming HTTP handlers, for which this SDK has no helper.

#![allow(deprecated)] // triggers, from 0.25 on: this program is for older versions too

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use iii_helpers::observability::Logger;
use iii_sdk::channel::{ChannelReader, ChannelWriter, StreamChannelRef};
use iii_sdk::helpers::create_channel;
use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
use iii_sdk::runtime::{FunctionRef, WorkerMetadata};
use iii_sdk::trigger::{Trigger, TriggerConfig, TriggerHandler};
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, RegisterTriggerType, TriggerAction, register_worker};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

const PIECES: [usize; 4] = [1, 1000, 65536, 100_000]; // bytes; SDKs cut at 64 KiB

type Answer = Result<Value, Error>;

/// What a provider of a trigger type was told about its bindings, and those that are live.
#[derive(Default)]
struct Told {
    events: Vec<Value>,
    bindings: Vec<TriggerConfig>,
}

struct Provider {
    told: Arc<Mutex<Told>>,
    refusal: Option<String>,
}

#[async_trait]
impl TriggerHandler for Provider {
    async fn register_trigger(&self, config: TriggerConfig) -> Result<(), Error> {
        let mut told = self.told.lock().unwrap();
        told.events.push(json!({
            "event": "register",
            "id": config.id,
            "function_id": config.function_id,
            "config": config.config,
            "metadata": config.metadata,
        }));
        if let Some(refusal) = &self.refusal {
            return Err(Error::Handler(refusal.clone()));
        }
        told.bindings.retain(|binding| binding.id != config.id);
        told.bindings.push(config);
        Ok(())
    }

    async fn unregister_trigger(&self, config: TriggerConfig) -> Result<(), Error> {
        let mut told = self.told.lock().unwrap();
        told.events.push(json!({"event": "unregister", "id": config.id}));
        told.bindings.retain(|binding| binding.id != config.id);
        Ok(())
    }
}

enum Registered {
    Function(FunctionRef),
    Trigger(Trigger),
}

struct Worker {
    name: String,
    iii: IIIClient,
    registered: Mutex<HashMap<String, Registered>>,
    providers: Mutex<HashMap<String, Arc<Mutex<Told>>>>,
    received: Mutex<HashMap<String, Vec<Value>>>,
}

impl Worker {
    fn new(url: &str, name: &str) -> Arc<Self> {
        let metadata = WorkerMetadata {
            name: name.to_string(),
            description: Some(format!("{name} under test")),
            ..Default::default()
        };
        Arc::new(Self {
            name: name.to_string(),
            iii: register_worker(url, InitOptions { metadata: Some(metadata), ..Default::default() }),
            registered: Mutex::default(),
            providers: Mutex::default(),
            received: Mutex::default(),
        })
    }

    fn start(self: &Arc<Self>) {
        // Calls
        self.offer("nothing", |_, _, _| async { Ok(Value::Null) });
        self.offer("metadata_of", |_, _, metadata| async move { Ok(json!({"metadata": metadata})) });
        self.offer("process", |_, _, _| async { Ok(json!({"pid": std::process::id()})) });
        self.offer("fail", |_, data, _| async move {
            Err(Error::Handler(data["message"].as_str().unwrap_or("failed as told").to_string()))
        });
        self.offer("slow", |worker, data, _| async move {
            worker.keep("slow", data["seconds"].clone());
            tokio::time::sleep(Duration::from_secs_f64(data["seconds"].as_f64().unwrap())).await;
            Ok(json!({"slept": data["seconds"]}))
        });
        self.offer("generate", |_, data, _| async move { Ok(json!({"text": "x".repeat(number(&data["bytes"]))})) });
        self.offer("call", |worker, data, _| async move { worker.call(data).await });
        self.offer("receive", |worker, data, metadata| async move {
            worker.keep(&text(&data["key"]), json!({"data": data, "metadata": metadata}));
            Ok(Value::Null)
        });
        self.offer("watch", |worker, data, _| async move {
            worker.keep("watch", json!({"data": data}));
            Ok(Value::Null)
        });
        self.offer("log", |_, data, _| async move {
            let (logger, message, more) = (Logger::new(), text(&data["message"]), Some(data["data"].clone()));
            match data["level"].as_str() {
                Some("error") => logger.error(&message, more),
                Some("warn") => logger.warn(&message, more),
                _ => logger.info(&message, more),
            }
            Ok(Value::Null)
        });
        self.offer("received_by", |worker, data, _| async move {
            let received = worker.received.lock().unwrap();
            Ok(json!({"received": received.get(&text(&data["key"])).cloned().unwrap_or_default()}))
        });

        // Channels
        self.offer("write_channel", |worker, data, _| async move {
            let end: StreamChannelRef = serde_json::from_value(data["writer"].clone())?;
            write(&ChannelWriter::new(worker.iii.address(), &end), number(&data["bytes"])).await
        });
        self.offer("read_channel", |worker, data, _| async move {
            let end: StreamChannelRef = serde_json::from_value(data["reader"].clone())?;
            read(&ChannelReader::new(worker.iii.address(), &end)).await
        });
        self.offer("push", |worker, data, _| async move {
            let channel = create_channel(&worker.iii, None).await?;
            let request = request(&data["function_id"], json!({"reader": channel.reader_ref}));
            let (received, sent) =
                tokio::try_join!(worker.iii.trigger(request), write(&channel.writer, number(&data["bytes"])))?;
            Ok(json!({"sent": sent, "received": received}))
        });
        self.offer("pull", |worker, data, _| async move {
            let channel = create_channel(&worker.iii, None).await?;
            let payload = json!({"writer": channel.writer_ref, "bytes": data["bytes"]});
            let request = request(&data["function_id"], payload);
            let (sent, received) = tokio::try_join!(worker.iii.trigger(request), read(&channel.reader))?;
            Ok(json!({"sent": sent, "received": received}))
        });

        // Registrations
        self.offer("register_function", |worker, data, _| async move {
            let id = text(&data["id"]);
            let function = worker.iii.register_function(&id, RegisterFunction::new_async(echo));
            worker.registered.lock().unwrap().insert(id, Registered::Function(function));
            Ok(Value::Null)
        });
        self.offer("register_trigger", |worker, data, _| async move {
            let trigger = worker.bind(&data)?;
            worker.registered.lock().unwrap().insert(text(&data["key"]), Registered::Trigger(trigger));
            Ok(Value::Null)
        });
        self.offer("unregister", |worker, data, _| async move {
            match worker.registered.lock().unwrap().remove(&text(&data["key"])).unwrap() {
                Registered::Function(function) => function.unregister(),
                Registered::Trigger(trigger) => trigger.unregister(),
            }
            Ok(Value::Null)
        });
        self.offer("register_type", |worker, data, _| async move {
            let told = Arc::new(Mutex::new(Told::default()));
            worker.providers.lock().unwrap().insert(text(&data["id"]), told.clone());
            let provider = Provider { told, refusal: data["refusal"].as_str().map(str::to_string) };
            let description = data["description"].as_str().unwrap_or("");
            worker.iii.register_trigger_type(RegisterTriggerType::new(text(&data["id"]), description, provider));
            Ok(Value::Null)
        });
        self.offer("unregister_type", |worker, data, _| async move {
            worker.iii.unregister_trigger_type(text(&data["id"]));
            Ok(Value::Null)
        });
        self.offer("events", |worker, data, _| async move {
            let told = worker.told(&data);
            let told = told.lock().unwrap();
            Ok(json!({"events": told.events}))
        });
        self.offer("fire", |worker, data, _| async move {
            let bindings = worker.told(&data).lock().unwrap().bindings.clone();
            let mut results = Vec::new();
            for binding in bindings {
                let request = request(&json!(binding.function_id), data["payload"].clone());
                results.push(match binding.metadata {
                    Some(metadata) => worker.iii.trigger(request.metadata(metadata)).await?,
                    None => worker.iii.trigger(request).await?,
                });
            }
            Ok(json!({"results": results}))
        });

        // HTTP
        self.offer("answer", |worker, data, _| async move {
            let members = ["method", "path", "path_params", "query_params", "headers", "body"];
            let said: HashMap<&str, &Value> = members.iter().map(|member| (*member, &data[*member])).collect();
            Ok(json!({"status_code": 201, "headers": {"x-worker": worker.name}, "body": said}))
        });
        self.route("GET", "answer", "/:id/parts/:part");
        self.route("POST", "answer", "");
        self.route("GET", "fail", "");

        // The last: when it can be called, the rest is there too.
        let echo = RegisterFunction::new_async(echo)
            .description("Returns what it gets")
            .metadata(json!({"team": "tests"}))
            .request_format(json!({"type": "object", "title": "Anything"}));
        self.iii.register_function(format!("{}::echo", self.name), echo);
    }

    fn offer<Work, Outcome>(self: &Arc<Self>, id: &str, work: Work)
    where
        Work: Fn(Arc<Worker>, Value, Option<Value>) -> Outcome + Send + Sync + 'static,
        Outcome: Future<Output = Answer> + Send + 'static,
    {
        let worker = self.clone();
        let handler = move |data: Value, metadata: Option<Value>| work(worker.clone(), data, metadata);
        self.iii.register_function(format!("{}::{id}", self.name), RegisterFunction::new_async(handler));
    }

    fn route(&self, method: &str, function: &str, parameters: &str) {
        let config = json!({"api_path": format!("/{}/{function}{parameters}", self.name), "http_method": method});
        let function_id = format!("{}::{function}", self.name);
        self.bind(&json!({"type": "http", "function_id": function_id, "config": config})).unwrap();
    }

    /// Register a trigger.  Through JSON, because the members of the SDK's struct are others in every version.
    fn bind(&self, data: &Value) -> Result<Trigger, Error> {
        let input: RegisterTriggerInput = serde_json::from_value(json!({
            "trigger_type": data["type"],
            "function_id": data["function_id"],
            "config": data["config"],
            "metadata": data["metadata"],
        }))?;
        self.iii.register_trigger(input)
    }

    /// Call what `data` says and return `result`, or `error` as the SDK returned it.
    async fn call(&self, data: Value) -> Answer {
        let mut request = request(&data["function_id"], data["payload"].clone());
        request.timeout_ms = data["timeout_ms"].as_u64();
        if data["void"] == json!(true) {
            request.action = Some(TriggerAction::Void);
        }
        let outcome = match data.get("metadata") {
            Some(metadata) => self.iii.trigger(request.metadata(metadata.clone())).await,
            None => self.iii.trigger(request).await,
        };
        match outcome {
            Ok(result) => Ok(json!({"result": result})),
            Err(Error::Remote { code, message, stacktrace }) => {
                Ok(json!({"error": {"code": code, "message": message, "stacktrace": stacktrace}}))
            }
            Err(error @ Error::Timeout) => {
                Ok(json!({"error": {"code": "TIMEOUT", "message": error.to_string(), "stacktrace": null}}))
            }
            Err(error) => Err(error),
        }
    }

    fn keep(&self, key: &str, value: Value) {
        self.received.lock().unwrap().entry(key.to_string()).or_default().push(value);
    }

    fn told(&self, data: &Value) -> Arc<Mutex<Told>> {
        self.providers.lock().unwrap()[&text(&data["id"])].clone()
    }
}

async fn echo(data: Value) -> Answer {
    Ok(data)
}

fn request(function_id: &Value, payload: Value) -> TriggerRequest {
    TriggerRequest { function_id: text(function_id), payload, action: None, timeout_ms: None }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_string()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn sha256(digest: Context) -> String {
    digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn write(writer: &ChannelWriter, size: usize) -> Answer {
    let (random, mut digest) = (SystemRandom::new(), Context::new(&SHA256));
    let (mut left, mut turn) = (size, 0);
    writer.send_message("begin").await?;
    while left > 0 {
        let mut piece = vec![0; left.min(PIECES[turn % PIECES.len()])];
        random.fill(&mut piece).unwrap();
        writer.write(&piece).await?;
        digest.update(&piece);
        left -= piece.len();
        turn += 1;
    }
    writer.send_message("end").await?;
    writer.close().await?;
    Ok(json!({"bytes": size, "sha256": sha256(digest), "texts": ["begin", "end"]}))
}

async fn read(reader: &ChannelReader) -> Answer {
    let (mut digest, mut size) = (Context::new(&SHA256), 0);
    let texts = Arc::new(Mutex::new(Vec::new()));
    let heard = texts.clone();
    reader.on_message(move |text| heard.lock().unwrap().push(text)).await;
    while let Some(piece) = reader.next_binary().await? {
        digest.update(&piece);
        size += piece.len();
    }
    let texts = texts.lock().unwrap().clone();
    Ok(json!({"bytes": size, "sha256": sha256(digest), "texts": texts}))
}

async fn told_to_stop() {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let mut interrupt = signal(SignalKind::interrupt()).unwrap();
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, name] = arguments.as_slice() else { panic!("expected: ENGINE_URL NAME") };
    // What the SDK has to say, refused triggers for instance, goes into the log.
    tracing_subscriber::fmt().with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let worker = Worker::new(url, name);
    worker.start();
    runtime.block_on(told_to_stop());
    worker.iii.shutdown();
}
