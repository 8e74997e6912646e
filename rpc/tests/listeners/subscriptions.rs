//! Subscriptions over real WebSockets: what they say, in which order, and how they end.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use jsonrpsee::ws_client::WsClientBuilder;
use rustorium_rpc::api::SubscribeApiClient as _;
use rustorium_rpc::limits::{SUBSCRIPTION_BLOCKS_MAX, SUBSCRIPTIONS_MAX};
use rustorium_rpc::wire::HexBytes;
use rustorium_state::Change;
use serde_json::{Value, json};

use crate::fixture::{Node, hash};
use crate::wire::{Ws, call, post, result};

/// Subscribes and gives the subscription's name.
fn subscribe(ws: &mut Ws, method: &str, params: Value) -> Value {
    let answer = ws.ask(&call(method, params).to_string());
    assert!(answer["result"].is_string(), "{method}: {answer}");
    answer["result"].clone()
}

/// The next notification, which is of this method and this subscription.
fn told(ws: &mut Ws, method: &str, subscription: &Value) -> Value {
    let message = ws.receive().expect("a notification");
    assert_eq!((&message["method"], &message["params"]["subscription"]), (&json!(method), subscription), "{message}");
    message["params"]["result"].clone()
}

/// What a subscription ended with.
fn end(message: &Value) -> (i64, Value) {
    let error = &message["params"]["error"];
    (error["code"].as_i64().unwrap_or_else(|| panic!("no end: {message}")), error["data"].clone())
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> Change {
    (key.into(), Some(value.into()))
}

fn hex(text: &str) -> String {
    const_hex::encode_prefixed(text)
}

/// Nothing comes for a while.
fn assert_silent(ws: &mut Ws) {
    ws.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let heard = ws.receive();
    assert!(
        matches!(&heard, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        "{heard:?}"
    );
    ws.0.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
}

#[test]
fn what_is_comes_first_and_then_every_block() {
    let node = Node::start_dev();
    node.seal(vec![put("a", "1")]);
    let [mut heads, mut finals, mut values] = [(); 3].map(|()| Ws::open(node.public, &[]).unwrap());
    let head = subscribe(&mut heads, "chain_subscribeNewHeads", json!([]));
    let last = subscribe(&mut finals, "chain_subscribeFinalizedHeads", json!([]));
    let value = subscribe(&mut values, "state_subscribeStorage", json!([[hex("a"), hex("b"), hex("a")]]));
    let header = result(node.public, "chain_getHeader", json!([]));
    assert_eq!(told(&mut heads, "chain_newHead", &head), header);
    assert_eq!(told(&mut finals, "chain_finalizedHead", &last), header);
    let block = |number: u64| result(node.public, "chain_getBlockHash", json!([number]));
    let set = json!({ "block": block(1), "changes": [[hex("a"), hex("1")], [hex("b"), null]] });
    assert_eq!(told(&mut values, "state_storage", &value), set);

    // As many as wait for a subscriber; each of them is told of, in order.
    let blocks = SUBSCRIPTION_BLOCKS_MAX as u64;
    for number in 2..2 + blocks {
        let other = put("other", number.to_string());
        let change = if number % 2 == 0 { vec![put("b", number.to_string()), other] } else { vec![other] };
        node.seal(change);
    }
    for number in 2..2 + blocks {
        let header = result(node.public, "chain_getHeader", json!([block(number)]));
        assert_eq!(header["number"], format!("{number:#x}"));
        assert_eq!(told(&mut heads, "chain_newHead", &head), header);
        assert_eq!(told(&mut finals, "chain_finalizedHead", &last), header);
        if number % 2 == 0 {
            let set = json!({ "block": block(number), "changes": [[hex("b"), hex(&number.to_string())]] });
            assert_eq!(told(&mut values, "state_storage", &value), set);
        }
    }

    // Ended by the client: once.
    for is_there in [true, false] {
        let answer = heads.ask(&call("chain_unsubscribeNewHeads", json!([head])).to_string());
        assert_eq!(answer["result"], is_there);
    }
    node.seal(vec![(b"a".to_vec(), None)]);
    assert_silent(&mut heads);
    let set = told(&mut values, "state_storage", &value);
    assert_eq!(set["changes"], json!([[hex("a"), null]]));
}

#[test]
fn a_subscriber_goes_with_the_fork_that_wins() {
    let node = Node::start_engine();
    let mut ws = Ws::open(node.public, &[]).unwrap();
    let [mut finals, mut values] = [(); 2].map(|()| Ws::open(node.public, &[]).unwrap());
    let head = subscribe(&mut ws, "chain_subscribeNewHeads", json!([]));
    let last = subscribe(&mut finals, "chain_subscribeFinalizedHeads", json!([]));
    let value = subscribe(&mut values, "state_subscribeStorage", json!([[hex("k"), hex("l")]]));
    assert_eq!(told(&mut ws, "chain_newHead", &head)["number"], "0x0");
    assert_eq!(told(&mut finals, "chain_finalizedHead", &last)["number"], "0x0");
    told(&mut values, "state_storage", &value);

    // genesis ─ 1 ─ 2 ─ 3 and 1 ─ 4 ─ 5 ─ 6, which wins with 4 being final.
    node.apply(1, 1, 0, vec![put("k", "1")]);
    node.apply(2, 2, 1, vec![put("k", "2")]);
    node.apply(3, 3, 2, vec![put("l", "3")]);
    node.apply(2, 4, 1, vec![put("m", "4")]);
    node.apply(3, 5, 4, vec![put("k", "5")]);
    node.apply(4, 6, 5, vec![]);
    node.choose(6, 4);
    node.apply(5, 7, 6, vec![put("l", "7")]);
    // Back to a block that was told of, and on from there.
    node.roll_back(5);
    node.apply(4, 8, 5, vec![]);

    let number = |header: Value| header["number"].as_str().unwrap().to_owned();
    let parent = |header: &Value| header["parentHash"].clone();
    let mut heard = Vec::new();
    for _ in 0..9 {
        let header = told(&mut ws, "chain_newHead", &head);
        heard.push((parent(&header), number(header)));
    }
    let genesis = node.genesis_hash();
    let expected = [
        (genesis.clone(), "0x1"),
        (hash(1), "0x2"),
        (hash(2), "0x3"), // as they came
        (hash(1), "0x2"),
        (hash(4), "0x3"),
        (hash(5), "0x4"), // the other fork, from where it parts
        (hash(6), "0x5"),
        (hash(4), "0x3"),
        (hash(5), "0x4"), // back, and on
    ];
    assert_eq!(heard, expected.map(|(parent, number)| (json!(parent), number.to_owned())));
    assert_silent(&mut ws);
    let finalized: Vec<Value> = (0..2).map(|_| parent(&told(&mut finals, "chain_finalizedHead", &last))).collect();
    assert_eq!(finalized, [json!(genesis), json!(hash(1))], "1 and 4");
    assert_silent(&mut finals);
    let sets: Vec<Value> = (0..6).map(|_| told(&mut values, "state_storage", &value)).collect();
    let set = |block: u8, changes: Value| json!({ "block": hash(block), "changes": changes });
    assert_eq!(
        sets,
        [
            set(1, json!([[hex("k"), hex("1")]])),
            set(2, json!([[hex("k"), hex("2")]])),
            set(3, json!([[hex("l"), hex("3")]])),
            set(6, json!([[hex("k"), hex("5")], [hex("l"), null]])),
            set(7, json!([[hex("l"), hex("7")]])),
            set(5, json!([[hex("l"), null]])),
        ]
    );
    assert_silent(&mut values);
}

#[test]
fn who_does_not_read_is_told_how_much_he_missed() {
    let node = Node::start_dev();
    let mut slow = Ws::open(node.public, &[]).unwrap();
    let value = subscribe(&mut slow, "state_subscribeStorage", json!([[hex("big")]]));
    let mut quick = Ws::open(node.public, &[]).unwrap();
    let head = subscribe(&mut quick, "chain_subscribeNewHeads", json!([]));
    told(&mut quick, "chain_newHead", &head);
    let blocks = 120;
    for number in 0..blocks {
        node.seal(vec![put("big", vec![number; 1 << 20])]);
        told(&mut quick, "chain_newHead", &head);
    }
    let first = told(&mut slow, "state_storage", &value);
    assert_eq!(first["changes"], json!([[hex("big"), null]]));
    let mut heard = 0;
    let (code, data) = loop {
        let message = slow.receive().expect("a message");
        match message["params"]["result"]["changes"][0][1].as_str() {
            Some(value) => assert_eq!(value[..4], format!("0x{heard:02x}"), "in order, without a gap"),
            None => break end(&message),
        }
        heard += 1;
    };
    let missed = data["got"].as_u64().unwrap();
    assert_eq!((code, &data["limit"], &data["max"]), (4020, &json!("blocksWaiting"), &json!(SUBSCRIPTION_BLOCKS_MAX)));
    assert_eq!(heard + missed, u64::from(blocks), "heard {heard}, missed {missed}");
    // It is over, and a new one begins with what is.
    let answer = slow.ask(&call("state_unsubscribeStorage", json!([value])).to_string());
    assert_eq!(answer["result"], false);
    let value = subscribe(&mut slow, "state_subscribeStorage", json!([[hex("big")]]));
    let now = told(&mut slow, "state_storage", &value);
    assert!(now["changes"][0][1].as_str().unwrap().starts_with(&format!("0x{:02x}", blocks - 1)));
}

#[test]
fn subscriptions_have_bounds() {
    let node = Node::start_dev();
    let mut ws = Ws::open(node.public, &[]).unwrap();
    let keys = |count: u16| (0..count).map(|i| const_hex::encode_prefixed(i.to_be_bytes())).collect::<Vec<_>>();
    for (params, code, data) in [
        (json!([[]]), -32602, None),
        (json!([null]), -32602, None),
        (json!([]), -32602, None),
        (json!([["6b"]]), -32602, None),
        (json!([keys(1025)]), 4020, Some(json!({ "limit": "keys", "max": 1024, "got": 1025 }))),
        (json!([[hex(&"k".repeat(1025))]]), 4022, Some(json!({ "limit": "keyBytes", "max": 1024, "got": 1025 }))),
    ] {
        let answer = ws.ask(&call("state_subscribeStorage", params).to_string());
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert!(data.is_none_or(|data| answer["error"]["data"] == data), "{answer}");
    }
    let all = subscribe(&mut ws, "state_subscribeStorage", json!([keys(1024)]));
    assert_eq!(told(&mut ws, "state_storage", &all)["changes"].as_array().map(Vec::len), Some(1024));
    for _ in 1..SUBSCRIPTIONS_MAX {
        let head = subscribe(&mut ws, "chain_subscribeNewHeads", json!([]));
        told(&mut ws, "chain_newHead", &head);
    }
    let one_more = ws.ask(&call("chain_subscribeNewHeads", json!([])).to_string());
    assert_eq!(one_more["error"]["code"], -32006, "{one_more}");
    let mut other = Ws::open(node.public, &[]).unwrap();
    subscribe(&mut other, "chain_subscribeNewHeads", json!([]));

    // Over HTTP there are none, alone or in a batch.
    for method in ["chain_subscribeNewHeads", "state_subscribeStorage", "chain_unsubscribeNewHeads"] {
        let alone = post(node.public, &[], call(method, json!([])).to_string().as_bytes()).json();
        let batch = json!([call(method, json!([])), call("chain_getHead", json!([]))]);
        let batch = post(node.public, &[], batch.to_string().as_bytes()).json();
        for refused in [&alone, &batch[0]] {
            assert_eq!(refused["error"]["code"], -32600, "{refused}");
            assert!(refused["error"]["message"].as_str().unwrap().contains("WebSocket"), "{refused}");
            assert_eq!(refused["id"], 7);
        }
        assert_eq!(batch[1]["result"]["number"], 0);
    }
}

#[test]
fn subscriptions_end_with_the_node() {
    let mut node = Node::start_dev();
    let [mut ws, mut idle] = [(); 2].map(|()| Ws::open(node.public, &[]).unwrap());
    let head = subscribe(&mut ws, "chain_subscribeNewHeads", json!([]));
    told(&mut ws, "chain_newHead", &head);
    let value = subscribe(&mut idle, "state_subscribeStorage", json!([[hex("a")]]));
    told(&mut idle, "state_storage", &value);
    node.stop_writer();
    for ws in [&mut ws, &mut idle] {
        let (code, _) = end(&ws.receive().expect("its end"));
        assert_eq!(code, -32603);
    }
    // A late one hears what is, and that nothing more will come.
    let head = subscribe(&mut ws, "chain_subscribeNewHeads", json!([]));
    told(&mut ws, "chain_newHead", &head);
    assert_eq!(end(&ws.receive().expect("its end")).0, -32603);

    let mut node = Node::start_dev();
    let mut ws = Ws::open(node.public, &[]).unwrap();
    let head = subscribe(&mut ws, "chain_subscribeNewHeads", json!([]));
    told(&mut ws, "chain_newHead", &head);
    let begun = Instant::now();
    node.stop_listeners();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(ws.receive().is_err());
}

#[test]
fn a_connection_that_goes_takes_its_subscriptions_with_it() {
    let node = Node::start_dev();
    for _ in 0..40 {
        let mut ws = Ws::open(node.public, &[]).unwrap();
        for _ in 0..SUBSCRIPTIONS_MAX {
            subscribe_unread(&mut ws);
        }
    }
    let begun = Instant::now();
    (0..20).for_each(|number| node.seal(vec![put("k", [number])]));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(result(node.public, "chain_getHead", json!([]))["number"], 20);
}

fn subscribe_unread(ws: &mut Ws) {
    ws.send(&call("chain_subscribeNewHeads", json!([])).to_string()).expect("the server reads");
}

#[test]
fn the_client_of_the_trait_subscribes() {
    let node = Node::start_dev();
    node.runtime.block_on(async {
        let client = WsClientBuilder::default().build(format!("ws://{}", node.public)).await.expect("a connection");
        let mut heads = client.subscribe_new_heads().await.expect("a subscription");
        let mut values = client.subscribe_storage(vec![HexBytes(b"k".to_vec())]).await.expect("another");
        assert_eq!(heads.next().await.unwrap().unwrap().number, "0x0");
        assert_eq!(values.next().await.unwrap().unwrap().changes.len(), 1);
        let client = rustorium_rpc::client::public(&format!("http://{}", node.public)).expect("a client");
        rustorium_rpc::DevApiClient::submit_changes(&client, vec![(HexBytes(b"k".to_vec()), None)]).await.unwrap();
        assert_eq!(heads.next().await.unwrap().unwrap().number, "0x1");
    });
}
