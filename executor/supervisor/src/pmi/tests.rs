//! Conversations with the server, two nodes of it joined by hand.

use executor_supervisor::exchange::{Decoder, Message};
use executor_supervisor::spec::mpi;

use super::Server;

/// A node with these ranks of a step of four on two nodes.
fn node(index: u32, ranks: &[u32]) -> Server {
    let mpi = mpi::Mpi {
        server: mpi::Server::Pmi,
        node_index: index,
        nodes: vec!["c1".to_owned(), "c2".to_owned()],
        places: vec![0, 0, 1, 1],
        folder: Vec::new(),
    };
    Server::new("7.0".to_owned(), &mpi, ranks)
}

/// Says something and gives the answer.
fn say(server: &mut Server, member: usize, text: &str) -> String {
    assert!(server.receive(member, text.as_bytes()), "{text}");
    String::from_utf8(std::mem::take(server.output(member))).unwrap()
}

/// Says a PMI-2 request, with its length, and gives the answer without it.
fn say2(server: &mut Server, member: usize, text: &str) -> String {
    let answer = say(server, member, &format!("{:6}{text}", text.len()));
    let Some((length, body)) = answer.split_at_checked(6) else { return answer };
    assert_eq!(length.trim().parse::<usize>().unwrap(), body.len(), "{answer}");
    body.to_owned()
}

fn messages(server: &mut Server) -> Vec<Message> {
    let mut decoder = Decoder::default();
    decoder.push(&server.take_exchange());
    std::iter::from_fn(|| decoder.next_message().unwrap()).collect()
}

/// What the client makes of both nodes' parts.
fn whole(first: &mut Server, second: &mut Server) -> Message {
    let mut parts = Vec::new();
    let mut name = Vec::new();
    for server in [first, second] {
        match messages(server).pop() {
            Some(Message::Part { fence, bytes, .. }) => {
                name = fence;
                parts.push(bytes);
            }
            other => panic!("no part, but {other:?}"),
        }
    }
    Message::Whole { fence: name, parts }
}

#[test]
fn pmi_1_tasks_find_each_other() {
    let (mut first, mut second) = (node(0, &[0, 1]), node(1, &[2, 3]));
    for server in [&mut first, &mut second] {
        for member in 0..2 {
            assert_eq!(
                say(server, member, "cmd=init pmi_version=1 pmi_subversion=1\n"),
                "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1\n"
            );
        }
    }
    // In pieces, as a stream may bring them.
    assert_eq!(say(&mut first, 0, "cmd=get_m"), "");
    assert_eq!(
        say(&mut first, 0, "axes\n"),
        "cmd=maxes rc=0 kvsname_max=256 keylen_max=256 vallen_max=1024\n"
    );
    assert_eq!(say(&mut first, 0, "cmd=get_my_kvsname\n"), "cmd=my_kvsname rc=0 kvsname=7.0\n");
    assert_eq!(say(&mut first, 0, "cmd=get_universe_size\n"), "cmd=universe_size rc=0 size=4\n");
    let mapping = "cmd=get kvsname=7.0 key=PMI_process_mapping\n";
    assert_eq!(say(&mut first, 0, mapping), "cmd=get_result rc=0 msg=success value=(vector,(0,2,2))\n");
    let put = "cmd=put kvsname=7.0 key=card-3 value=port#9 ifname=x\n";
    assert_eq!(say(&mut second, 1, put), "cmd=put_result rc=0 msg=success\n");
    let get = "cmd=get kvsname=7.0 key=card-3\n";
    let missing = "cmd=get_result rc=-1 msg=key_card-3_not_found value=unknown\n";
    assert_eq!(say(&mut first, 0, get), missing);
    for member in 0..2 {
        assert_eq!(say(&mut first, member, "cmd=barrier_in\n"), "");
    }
    assert_eq!(say(&mut second, 0, "cmd=barrier_in\n"), "");
    assert!(messages(&mut second).is_empty(), "a part went out before the last task had come");
    assert_eq!(say(&mut second, 1, "cmd=barrier_in\n"), "");
    let message = whole(&mut first, &mut second);
    for server in [&mut first, &mut second] {
        assert!(server.take(message.clone()));
        // A message that comes twice is none of a fence that waits.
        assert!(!server.take(message.clone()));
        for member in 0..2 {
            assert_eq!(String::from_utf8_lossy(server.output(member)), "cmd=barrier_out rc=0\n");
            server.output(member).clear();
        }
    }
    assert_eq!(say(&mut first, 0, get), "cmd=get_result rc=0 msg=success value=port#9 ifname=x\n");
    assert_eq!(say(&mut first, 0, "cmd=finalize\n"), "cmd=finalize_ack rc=0\n");
    assert_eq!(messages(&mut first), [Message::Left]);
    first.gone(0);
    assert!(messages(&mut first).is_empty() && first.take_abort().is_none());
}

#[test]
fn pmi_2_tasks_find_each_other() {
    let (mut first, mut second) = (node(0, &[0]), node(1, &[1]));
    for (server, rank) in [(&mut first, 0), (&mut second, 1)] {
        assert_eq!(
            say(server, 0, "cmd=init pmi_version=2 pmi_subversion=0\n"),
            "cmd=response_to_init rc=0 pmi_version=2 pmi_subversion=0\n"
        );
        let answer = say2(server, 0, "cmd=fullinit;pmijobid=7.0;pmirank=0;threaded=FALSE;");
        let expected = format!(
            "cmd=fullinit-response;rc=0;pmi-version=2;pmi-subversion=0;rank={rank};size=4;appnum=0;\
             debugged=FALSE;pmiverbose=FALSE;"
        );
        assert_eq!(answer, expected);
    }
    assert_eq!(say2(&mut first, 0, "cmd=job-getid;"), "cmd=job-getid-response;rc=0;jobid=7.0;");
    assert_eq!(
        say2(&mut first, 0, "cmd=info-getjobattr;key=PMI_process_mapping;"),
        "cmd=info-getjobattr-response;rc=0;found=TRUE;value=(vector,(0,2,2));"
    );
    assert_eq!(
        say2(&mut first, 0, "cmd=info-getjobattr;key=other;"),
        "cmd=info-getjobattr-response;rc=0;found=FALSE;"
    );
    assert_eq!(
        say2(&mut second, 0, "cmd=kvs-put;key=a;value=one;;two=3;thrid=8;"),
        "cmd=kvs-put-response;thrid=8;rc=0;"
    );
    assert_eq!(say2(&mut first, 0, "cmd=kvs-fence;"), "");
    assert_eq!(say2(&mut second, 0, "cmd=kvs-fence;"), "");
    let message = whole(&mut first, &mut second);
    assert!(first.take(message.clone()) && second.take(message));
    assert_eq!(
        String::from_utf8(std::mem::take(first.output(0))).unwrap(),
        "    28cmd=kvs-fence-response;rc=0;"
    );
    assert_eq!(
        say2(&mut first, 0, "cmd=kvs-get;jobid=7.0;srcid=-1;key=a;"),
        "cmd=kvs-get-response;rc=0;found=TRUE;value=one;;two=3;"
    );
    assert_eq!(
        say2(&mut first, 0, "cmd=spawn;ncmds=1;"),
        "cmd=spawn-response;rc=14;errmsg=spawn is not supported;"
    );
    assert_eq!(say2(&mut first, 0, "cmd=finalize;"), "cmd=finalize-response;rc=0;");
}

#[test]
fn attributes_of_a_node_are_waited_for() {
    let mut server = node(0, &[0, 1]);
    for member in 0..2 {
        say(&mut server, member, "cmd=init pmi_version=2 pmi_subversion=0\n");
    }
    assert_eq!(say2(&mut server, 0, "cmd=info-getnodeattr;key=shm;wait=TRUE;thrid=1;"), "");
    let now = say2(&mut server, 0, "cmd=info-getnodeattr;key=shm;wait=FALSE;");
    assert_eq!(now, "cmd=info-getnodeattr-response;rc=0;found=FALSE;");
    let put = say2(&mut server, 1, "cmd=info-putnodeattr;key=shm;value=/x;");
    assert_eq!(put, "cmd=info-putnodeattr-response;rc=0;");
    let told = String::from_utf8(std::mem::take(server.output(0))).unwrap();
    assert_eq!(&told[6..], "cmd=info-getnodeattr-response;thrid=1;rc=0;found=TRUE;value=/x;");
}

#[test]
fn a_fence_that_cannot_be_whole_ends_the_step() {
    let mut server = node(0, &[0, 1]);
    for member in 0..2 {
        say(&mut server, member, "cmd=init pmi_version=1 pmi_subversion=1\n");
    }
    say(&mut server, 0, "cmd=barrier_in\n");
    server.gone(1);
    let text = "task 1 has left, and task 0 waits for it in a fence".to_owned();
    assert_eq!(messages(&mut server), [Message::Left, Message::Abort { text: text.clone() }]);
    assert_eq!(server.take_abort(), Some(text));
    // Where all have come, one that goes while the others are waited for is no news for this node.
    let mut server = node(0, &[0, 1]);
    say(&mut server, 0, "cmd=barrier_in\n");
    say(&mut server, 1, "cmd=barrier_in\n");
    server.gone(1);
    assert_eq!(server.take_abort(), None);
}

#[test]
fn rubbish_and_floods_are_refused() {
    let mut server = node(0, &[0]);
    assert_eq!(
        say(&mut server, 0, "nonsense\n"),
        "cmd=_result rc=-1 msg=_is_not_supported info=_is_not_supported\n"
    );
    assert_eq!(
        say(&mut server, 0, "mcmd=spawn\nnprocs=1\nexecname=x\nendcmd\n"),
        "cmd=spawn_result rc=-1 msg=spawn_is_not_supported info=spawn_is_not_supported\n"
    );
    let long = "v".repeat(2000);
    assert_eq!(
        say(&mut server, 0, &format!("cmd=put kvsname=x key=k value={long}\n")),
        "cmd=put_result rc=-1 msg=the_value_is_too_long\n"
    );
    assert_eq!(
        say(&mut server, 0, &format!("cmd=put kvsname=x key={long} value=\n")),
        "cmd=put_result rc=-1 msg=the_key_is_too_long\n"
    );
    assert!(!server.receive(0, &vec![b'x'; 70_000]), "a request without an end was kept");
    let mut server = node(0, &[0]);
    say(&mut server, 0, "cmd=init pmi_version=2 pmi_subversion=0\n");
    assert!(!server.receive(0, b"nodigits"));
    assert_eq!(
        say(&mut node(0, &[0]), 0, "cmd=init pmi_version=9 pmi_subversion=0\n").find("rc=-1"),
        Some(21)
    );
    let mut server = node(0, &[0]);
    let message = Message::Whole { fence: Vec::new(), parts: Vec::new() };
    assert!(!server.take(message) && !server.take(Message::Left));
    say(&mut server, 0, "cmd=abort exitcode=5\n");
    assert_eq!(server.take_abort().as_deref(), Some("task 0 called abort: exit code 5"));
}
