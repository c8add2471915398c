//! The connection, and what a server says about itself.

use crate::compare::Check;
use crate::grammar::Arg::{Integer, Key, Maybe, OneOf, Raw, Times, Value, Within, Word};
use crate::grammar::Kind::Any;
use crate::grammar::{Arg, From, Spec, spec};

const NAME: Arg = OneOf(&[
    &[Raw("me")],
    &[Raw("")],
    &[Raw("with space")],
    &[Raw("a-b.c")],
    &[Raw("line\n")],
]);

/// Milliseconds.
const WAITS: Arg = OneOf(&[
    &[Raw("1")],
    &[Raw("2")],
    &[Raw("-1")],
    &[Raw("x")],
    &[Raw("9223372036854775807")],
]);

pub const SPECS: &[Spec] = &[
    spec("PING", &[]),
    spec("PING", &[Value]),
    spec("PING", &[Value, Value]).weight(1),
    spec("ECHO", &[Value]),
    spec("HELLO", &[Maybe(&[OneOf(&[&[Raw("2")], &[Raw("3")]])])]).check(Check::Hello).weight(2),
    spec("HELLO", &[OneOf(&[&[Raw("1")], &[Raw("4")], &[Raw("x")], &[Integer]])]).check(Check::Hello).weight(1),
    // Each option once: 7.0 carries them out one by one, later versions read all of them first.
    spec(
        "HELLO",
        &[
            OneOf(&[&[Raw("2")], &[Raw("3")]]),
            OneOf(&[
                &[Word("SETNAME"), NAME],
                &[Word("AUTH"), Raw("default"), Raw("")],
                &[Word("AUTH"), Raw("default"), Raw("x"), Word("SETNAME"), NAME],
                &[Word("AUTH"), Raw("nobody"), Raw("x")],
                &[Raw("WRONG")],
                &[Word("SETNAME")],
            ]),
        ],
    )
    .check(Check::Hello)
    .weight(2)
    .never_spoilt(),

    spec("AUTH", &[Times(1, 3, &[OneOf(&[&[Raw("default")], &[Raw("x")], &[Raw("")]])])]).weight(1),
    spec("SELECT", &[OneOf(&[&[Raw("16")], &[Raw("-1")], &[Integer], &[Raw("")]])]).weight(1),
    spec("RESET", &[]).weight(1),
    spec("CLIENT ID", &[]).check(Check::Type).weight(1),
    spec("CLIENT GETNAME", &[]).weight(2),
    spec("CLIENT SETNAME", &[NAME]).weight(2),
    spec("CLIENT INFO", &[]).check(Check::Type).weight(1),
    spec("CLIENT LIST", &[Maybe(&[Word("TYPE"), OneOf(&[&[Word("normal")], &[Raw("pubsub")], &[Raw("nosuch")]])])])
        .check(Check::Type)
        .weight(1),
    spec("CLIENT LIST", &[Word("ID"), OneOf(&[&[Raw("0")], &[Raw("x")], &[Raw("-1")]])]).check(Check::Type).weight(1),
    spec("CLIENT LIST", &[OneOf(&[&[Word("ID")], &[Raw("WRONG"), Raw("x")], &[Word("TYPE")]])]).check(Check::Type).weight(1),
    spec("CLIENT NO-EVICT", &[OneOf(&[&[Word("ON")], &[Word("OFF")], &[Raw("maybe")]])]).weight(1),
    // With nobody to wait for: until the timeout, which is short.
    spec("WAIT", &[OneOf(&[&[Raw("0")], &[Raw("1")], &[Raw("-1")], &[Raw("x")]]), WAITS])
        // 7.0 takes a timeout that ends after all times.
        .from(From::Newer).weight(2).never_spoilt(),
    spec("WAITAOF", &[OneOf(&[&[Raw("1")], &[Raw("2")], &[Raw("-1")], &[Raw("x")]]), OneOf(&[&[Raw("0")], &[Raw("1")], &[Raw("-1")]]), WAITS])
        .from(From::Newer).weight(1).never_spoilt(),
    spec("CLIENT UNPAUSE", &[]).weight(1),
    spec("CLIENT PAUSE", &[OneOf(&[&[Raw("0")], &[Raw("x")], &[Raw("-1")]]), Maybe(&[OneOf(&[&[Word("WRITE")], &[Word("ALL")], &[Raw("WRONG")]])])])
        .weight(1).never_spoilt(),
    spec("CLIENT GETREDIR", &[]).weight(1),
    spec("CLIENT KILL", &[OneOf(&[
        &[Raw("127.0.0.1:1")],
        &[Word("ID"), Raw("999999")],
        &[Word("ID"), Raw("0")],
        &[Word("ID"), Raw("x")],
        &[Word("TYPE"), Raw("nosuch")],
        &[Word("TYPE"), Raw("pubsub")],
        &[Word("ADDR"), Raw("127.0.0.1:1")],
        &[Word("LADDR"), Raw("127.0.0.1:1")],
        &[Word("USER"), Raw("nobody")],
        &[Word("SKIPME"), Raw("maybe")],
        &[Raw("WRONG"), Raw("x")],
    ])])
    .weight(2),
    spec("CLIENT UNBLOCK", &[OneOf(&[&[Raw("999999")], &[Raw("x")]]), Maybe(&[OneOf(&[&[Word("ERROR")], &[Word("TIMEOUT")], &[Raw("WRONG")]])])])
        .weight(1),
    spec("CLIENT REPLY", &[OneOf(&[&[Word("ON")], &[Raw("WRONG")]])]).weight(1),
    spec("CLIENT TRACKINGINFO", &[]).weight(1),
    spec("CLIENT HELP", &[]).weight(1),
    spec("CLIENT", &[Maybe(&[Raw("NOSUCH")])]).weight(1),
    spec("TIME", &[]).check(Check::Shape).weight(1),
    spec("LOLWUT", &[Maybe(&[Raw("VERSION"), Raw("1")])]).check(Check::Type).weight(1),
    spec("COMMAND COUNT", &[]).check(Check::Type).weight(1),
    spec("COMMAND GETKEYS", &[OneOf(&[
        &[Word("GET"), Key(Any)],
        &[Word("MSET"), Key(Any), Value, Key(Any), Value],
        &[Word("SET"), Key(Any), Value],
        &[Word("COPY"), Key(Any), Key(Any)],
        &[Word("OBJECT"), Word("ENCODING"), Key(Any)],
        &[Word("PING")],
        &[Word("GET")],
        &[Raw("nosuch"), Raw("x")],
        &[Word("ZUNIONSTORE"), Key(Any), Raw("2"), Key(Any), Key(Any)],
        &[Word("EVAL"), Raw("return 1"), Raw("2"), Key(Any), Key(Any)],
        &[Word("SORT"), Key(Any), Word("STORE"), Key(Any)],
        &[Word("XREAD"), Word("STREAMS"), Key(Any), Raw("0")],
    ])])
    .weight(3),
    spec("COMMAND GETKEYSANDFLAGS", &[OneOf(&[
        &[Word("GET"), Key(Any)],
        &[Word("MSET"), Key(Any), Value, Key(Any), Value],
        &[Word("SET"), Key(Any), Value, OneOf(&[&[Word("GET")], &[Word("NX")]])],
        &[Word("COPY"), Key(Any), Key(Any)],
        &[Word("RENAME"), Key(Any), Key(Any)],
        &[Word("LMOVE"), Key(Any), Key(Any), Raw("LEFT"), Raw("LEFT")],
    ])])
    .weight(3),
    spec("COMMAND INFO", &[Raw("nosuchcommand")]).weight(1).never_spoilt(),
    spec("COMMAND LIST", &[OneOf(&[
        &[Word("FILTERBY"), Word("MODULE"), Raw("nosuch")],
        &[Word("FILTERBY"), Word("ACLCAT"), Raw("nosuch")],
        &[Word("FILTERBY"), Word("PATTERN"), Raw("nosuch*")],
        &[Word("FILTERBY"), Word("PATTERN"), Raw("getd*")],
        &[Word("FILTERBY"), Raw("WRONG"), Raw("x")],
        &[Word("FILTERBY")],
    ])])
    .check(Check::Sorted)
    .weight(1),
    spec("COMMAND", &[Raw("NOSUCH")]).weight(1).never_spoilt(),
    spec("CONFIG GET", &[OneOf(&[
        &[Raw("maxmemory-policy")],
        &[Raw("hash-max-listpack-entries")],
        &[Raw("hash-max-ziplist-*")],
        &[Raw("set-max-intset-entries"), Raw("zset-max-listpack-value")],
        &[Raw("nosuch")],
        &[Raw("proto-max-bulk-len")],
        &[Raw("*-listpack-size")],
        &[Raw("DATABASES")],
        &[],
    ])])
    .check(Check::SortedPairs)
    .weight(2).never_spoilt(),
    spec("CONFIG SET", &[OneOf(&[
        &[Raw("hash-max-listpack-entries"), OneOf(&[&[Raw("8")], &[Raw("128")], &[Raw("x")]])],
        &[Raw("zset-max-listpack-entries"), OneOf(&[&[Raw("8")], &[Raw("128")], &[Raw("-1")]])],
        &[Raw("set-max-intset-entries"), OneOf(&[&[Raw("8")], &[Raw("512")], &[Raw("")]])],
        &[Raw("hash-max-listpack-value"), Raw("64"), Raw("hash-max-listpack-value"), Raw("32")],
        &[Raw("hash-max-listpack-value"), Raw("64"), Raw("zset-max-listpack-value"), Raw("64")],
        &[Raw("nosuch"), Raw("1")],
        &[Raw("databases"), Raw("8")],
        &[Raw("maxmemory"), Raw("lots")],
        &[Raw("maxmemory-policy"), Raw("nosuch")],
        &[Raw("appendfsync"), Raw("sometimes")],
        &[Raw("hash-max-listpack-value")],
    ])])
    .weight(2),
    spec("CONFIG", &[Maybe(&[Raw("NOSUCH")])]).weight(1),
    spec("MEMORY USAGE", &[Key(Any), Maybe(&[Word("SAMPLES"), Within(0, 5)])]).check(Check::Type).weight(2),
    spec("MEMORY DOCTOR", &[]).check(Check::Type).weight(1),
    spec("MEMORY STATS", &[]).check(Check::Type).weight(1),
    spec("MEMORY PURGE", &[]).weight(1),
    spec("MEMORY HELP", &[]).weight(1),
    spec("INFO", &[Times(0, 2, &[OneOf(&[&[Word("server")], &[Word("keyspace")], &[Word("everything")], &[Raw("nosuch")]])])])
        .check(Check::Type)
        .weight(1),
    spec("DEBUG SLEEP", &[Raw("0")]).weight(1).never_spoilt(),
    spec("NOSUCHCOMMAND", &[Times(0, 3, &[Value])]).weight(2),
    spec("NOSUCHCOMMAND", &[Times(0, 3, &[Raw("quite a long argument that is more than the error shows, quite a long argument that is")])]).weight(1),
];
