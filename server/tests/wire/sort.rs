//! SORT over several cores: its list, the keys that its patterns name and the key that it stores into lie anywhere.

use crate::harness::{Server, setups};
use crate::resp::{Client, Value, bulk, ok, push_request};

const LISTS: usize = 12;

/// The elements of every list with what they weigh, in no order of either.
const ELEMENTS: [(&str, &str); 4] = [("c", "1"), ("a", "3"), ("d", "2"), ("b", "4")];

fn filled(client: &mut Client) {
    for (element, weight) in ELEMENTS {
        assert_eq!(
            client.call(&["SET", &format!("weight:{element}"), weight]),
            ok()
        );
    }
    for n in 0..LISTS {
        for (count, (element, _)) in ELEMENTS.iter().enumerate() {
            let reply = client.call(&["RPUSH", &format!("list:{n}"), element]);
            assert_eq!(reply, Value::Int(count as i64 + 1));
        }
    }
}

fn bulks(words: &[&str]) -> Value {
    Value::Array(words.iter().map(bulk).collect())
}

#[test]
fn the_list_may_be_on_any_core() {
    for setup in setups(&[1, 2, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        filled(&mut client);
        for n in 0..LISTS {
            let list = format!("list:{n}");
            let unsorted = client.call(&["SORT", &list, "BY", "nosort"]);
            assert_eq!(unsorted, bulks(&["c", "a", "d", "b"]), "{list}");
            let sorted = client.call(&["SORT_RO", &list, "ALPHA"]);
            assert_eq!(sorted, bulks(&["a", "b", "c", "d"]), "{list}");
            let error = client.call(&["SORT", &list]);
            assert!(matches!(error, Value::Error(_)), "{list}: {error:?}");
        }
    }
}

#[test]
fn patterns_and_destinations_may_be_on_other_cores() {
    for setup in setups(&[1, 2, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        filled(&mut client);
        for n in 0..LISTS {
            let list = format!("list:{n}");
            let by_weight = client.call(&["SORT", &list, "BY", "weight:*"]);
            assert_eq!(by_weight, bulks(&["c", "d", "a", "b"]), "{list}");
            let weights = client.call(&["SORT", &list, "ALPHA", "GET", "weight:*", "GET", "#"]);
            let expected = bulks(&["3", "a", "4", "b", "1", "c", "2", "d"]);
            assert_eq!(weights, expected, "{list}");
            // With the list's own slot among them, and onto itself.
            for to in ["to:0", "to:1", "to:2", &list] {
                let words = ["SORT", &list, "BY", "weight:*", "DESC", "STORE", to];
                assert_eq!(client.call(&words), Value::Int(4), "{list} to {to}");
                let stored = client.call(&["LRANGE", to, "0", "-1"]);
                assert_eq!(stored, bulks(&["b", "a", "d", "c"]), "{list} to {to}");
            }
        }
        let nothing = client.call(&["SORT", "nosuch", "STORE", "to:0"]);
        assert_eq!(nothing, Value::Int(0));
        assert_eq!(client.call(&["EXISTS", "to:0"]), Value::Int(0));
    }
}

/// A pipeline's order holds for keys too that nobody could see in the command's words.
#[test]
fn commands_around_a_sort_keep_their_order() {
    for setup in setups(&[1, 2, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        filled(&mut client);
        for round in 0..200 {
            let (list, to) = (
                format!("list:{}", round % LISTS),
                format!("to:{}", round % 7),
            );
            let (heavy, light) = (format!("{}", round + 10), format!("-{round}"));
            let mut out = Vec::new();
            push_request(&mut out, &["SET", "weight:a", &heavy]);
            push_request(&mut out, &["DEL", &to]);
            push_request(&mut out, &["SORT", &list, "BY", "weight:*", "STORE", &to]);
            push_request(&mut out, &["SET", "weight:a", &light]);
            push_request(&mut out, &["LPOP", &to]);
            push_request(&mut out, &["RPOP", &to]);
            client.send(&out);
            assert_eq!(client.read(), ok());
            assert!(matches!(client.read(), Value::Int(0 | 1)));
            client.expect(&[Value::Int(4), ok(), bulk("c"), bulk("a")]);
        }
    }
}
