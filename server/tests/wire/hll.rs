//! HyperLogLogs on several cores.

use crate::harness::{Server, setups};
use crate::resp::{Value, ok};

#[test]
fn counts_and_merges_reach_keys_of_any_core() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        let keys: Vec<String> = (0..16).map(|n| format!("hll:{n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            let words = ["PFADD", key, "shared", &format!("own:{n}")];
            assert_eq!(client.call(&words), Value::Int(1));
        }
        let with = |words: &[&str]| -> Vec<String> {
            let words = words.iter().map(ToString::to_string);
            words.chain(keys.iter().cloned()).collect()
        };
        assert_eq!(client.call(&with(&["PFCOUNT"])), Value::Int(17));
        for n in 0..8 {
            let to = format!("to:{n}");
            assert_eq!(client.call(&with(&["PFMERGE", &to])), ok());
            assert_eq!(client.call(&["PFCOUNT", &to]), Value::Int(17));
            // Without a source it makes the key where it belongs.
            let alone = format!("alone:{n}");
            assert_eq!(client.call(&["PFMERGE", &alone]), ok());
            assert_eq!(client.call(&["PFCOUNT", &alone]), Value::Int(0));
            assert_eq!(client.call(&["DEL", &alone]), Value::Int(1));
        }
        assert_eq!(client.call(&["DBSIZE"]), Value::Int(24));
        assert_eq!(client.call(&["PFSELFTEST"]), ok());
    }
}
