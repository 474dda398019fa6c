#![allow(clippy::unwrap_used)]
use wasmtime::{Instance, Module, Trap};

use super::*;

/// The budget of a bare store must end a loop: nothing else in these tests could.
async fn ends_a_loop(engine: &PluginEngine) {
    let module = Module::new(engine.wasmtime(), "(module (func (export \"f\") (loop (br 0))))").unwrap();
    let mut store = Store::new(engine.wasmtime(), ());
    let pace = Pace::default();
    let budget = engine.budget(&mut store, Duration::from_millis(30), &pace);
    let call = async move {
        let result = budget
            .count(async {
                let instance = Instance::new_async(&mut store, &module, &[]).await?;
                let f = instance.get_typed_func::<(), ()>(&mut store, "f")?;
                f.call_async(&mut store, ()).await
            })
            .await;
        (result, budget.spent(), thread::current().name().map(str::to_owned))
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), engine.run_short(call, &pace));
    let (result, spent, thread) = ended.await.unwrap().unwrap();
    assert!(pace.is_long());
    assert_eq!(thread.as_deref(), Some("witlet-guest"), "it leaves its caller's thread");
    assert_eq!(result.unwrap_err().downcast_ref::<Trap>(), Some(&Trap::Interrupt));
    assert!(spent >= Duration::from_millis(30), "{spent:?}");
}

#[tokio::test]
async fn a_budget_brings_its_clock_and_wakes_it() {
    let engine = PluginEngine::new().unwrap();
    ends_a_loop(&engine).await;
    tokio::time::sleep(clock::TICK * (clock::IDLE_TICKS + 10)).await;
    ends_a_loop(&engine).await;
}

#[tokio::test]
async fn so_many_instances_fit_and_no_more() {
    let engine = PluginEngine::new().unwrap();
    let text = "(module (memory 1) (table 1 funcref) (func (export \"f\")))";
    let module = Module::new(engine.wasmtime(), text).unwrap();
    let mut held = Vec::new();
    for _ in 0..SLOTS {
        let room = engine.slots(1, Duration::ZERO).await.unwrap();
        let mut store = Store::new(engine.wasmtime(), ());
        Instance::new_async(&mut store, &module, &[]).await.unwrap();
        held.push((store, room));
    }
    assert!(engine.is_crowded());
    let error = engine.slots(1, Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(error, CallError::Overload(_)), "{error}");
    held.clear();
    assert!(!engine.is_crowded());
    assert!(engine.slots(1, Duration::ZERO).await.is_ok());
}

#[tokio::test]
async fn a_short_call_stays_where_it_is() {
    let engine = PluginEngine::new().unwrap();
    let here = thread::current().id();
    let call = async {
        tokio::task::yield_now().await;
        thread::current().id()
    };
    let there = engine.run_short(call, &Pace::default()).await.unwrap();
    assert_eq!(there, here);
}

#[tokio::test]
async fn waiting_is_not_working() {
    let engine = PluginEngine::new().unwrap();
    let mut store = Store::new(engine.wasmtime(), ());
    let budget = engine.budget(&mut store, Duration::from_millis(20), &Pace::default());
    budget.count(tokio::time::sleep(Duration::from_millis(100))).await;
    assert!(budget.spent() < Duration::from_millis(100));
}
