import com.datastax.oss.driver.api.core.AllNodesFailedException;
import com.datastax.oss.driver.api.core.ConsistencyLevel;
import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.DriverException;
import com.datastax.oss.driver.api.core.NodeUnavailableException;
import com.datastax.oss.driver.api.core.cql.BoundStatement;
import com.datastax.oss.driver.api.core.cql.PreparedStatement;
import com.datastax.oss.driver.api.core.cql.ResultSet;
import com.datastax.oss.driver.api.core.cql.Row;
import com.datastax.oss.driver.api.core.metadata.Node;
import com.datastax.oss.driver.api.core.servererrors.UnavailableException;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Collectors;

/**
 * A client by the Apache driver for Java: {@code java Client.java PORT PROCESS ADDRESS...}, with the
 * driver's jars as class path.
 *
 * <p>It does what {@code client.py} beside it does, and says so in the same way.
 */
public final class Client {
    static final int THREADS = 2;
    // As in jepsen/src/clients/mod.rs.
    static final long PARTITIONS = 64;
    static final long VALUES_OF_PROCESS = 1_000_000;
    static final long REGISTERS = 256;
    static final long RAISE_ONE_OF = 4;
    static final long RAISES_IN_TURN = 40;
    static final long PAUSE_MILLIS = 10;
    static final long VIEW_MILLIS = 300;
    static final Duration ANSWER_TIME_MAX = Duration.ofSeconds(5);

    static volatile boolean rests = false;

    final CqlSession session;
    final PreparedStatement insert;
    final PreparedStatement select;
    final PreparedStatement update;

    Client(int port, List<String> addresses) {
        List<InetSocketAddress> contactPoints =
                addresses.stream().map(address -> new InetSocketAddress(address, port)).toList();
        session = patiently(() -> CqlSession.builder()
                .addContactPoints(contactPoints)
                .withLocalDatacenter("datacenter1")
                .withKeyspace("jepsen")
                .build());
        insert = prepare("INSERT INTO elements (k, v) VALUES (?, ?)");
        select = prepare("SELECT v FROM registers WHERE k = ?");
        update = prepare("UPDATE registers SET v = ? WHERE k = ? IF v = ?");
    }

    PreparedStatement prepare(String text) {
        return patiently(() -> session.prepare(text));
    }

    /** Tries again and again, for as long as the harness waits. */
    static <T> T patiently(Supplier<T> trial) {
        while (true) {
            try {
                return trial.get();
            } catch (DriverException error) {
                System.err.println("not connected yet: " + error);
                pause(VIEW_MILLIS);
            }
        }
    }

    static synchronized void show(long nanos, String members) {
        System.out.println("{\"nanos\":" + nanos + "," + members + "}");
        System.out.flush();
    }

    static void show(long process, String kind, String operation) {
        String members = "\"process\":" + process + ",\"type\":\"" + kind + "\"," + operation;
        show(System.nanoTime(), members);
    }

    /** What an answer tells, and the members that say so. */
    record Told(Object what, String members) {}

    /** Runs a statement, and shows what became of it. Returns what was told, or null. */
    Told ask(long process, String operation, String unanswered, BoundStatement statement,
            Function<ResultSet, Told> told) {
        show(process, "invoke", operation + unanswered);
        try {
            ResultSet result = session.execute(statement.setConsistencyLevel(level(statement)));
            Told answer = told.apply(result);
            show(process, "ok", operation + answer.members());
            return answer;
        } catch (DriverException error) {
            String text = (error.getClass().getSimpleName() + ": " + error.getMessage())
                    .replaceAll("[\\\\\"\\p{Cntrl}]", " ");
            show(process, isRefused(error) ? "fail" : "info",
                    operation + unanswered + ",\"error\":\"" + text + "\"");
            return null;
        }
    }

    ConsistencyLevel level(BoundStatement statement) {
        boolean isRead = statement.getPreparedStatement() == select;
        return isRead ? ConsistencyLevel.SERIAL : ConsistencyLevel.QUORUM;
    }

    /** Whether all attempts at a statement were refused, or not made. */
    static boolean isRefused(DriverException error) {
        List<Throwable> attempts = new ArrayList<>();
        if (error instanceof AllNodesFailedException all) {
            all.getAllErrors().values().forEach(attempts::addAll);
        } else {
            attempts.add(error);
        }
        if (error.getExecutionInfo() != null) {
            error.getExecutionInfo().getErrors().forEach(attempt -> attempts.add(attempt.getValue()));
        }
        return attempts.stream().allMatch(attempt -> attempt instanceof UnavailableException
                || attempt instanceof NodeUnavailableException);
    }

    void add(long process, long value) {
        BoundStatement statement = insert.bind(value % PARTITIONS, value).setIdempotent(true);
        ask(process, "\"f\":\"add\",\"value\":" + value, "", statement,
                result -> new Told(null, ""));
    }

    /** The driver makes no second attempt at the update, unless the first was refused. */
    void raiseRegister(long process, long key) {
        Told read = ask(process, "\"f\":\"read\",\"key\":" + key, ",\"value\":null",
                select.bind(key), result -> {
                    Row row = result.one();
                    Long value = row == null ? null : (Long) row.getLong("v");
                    return new Told(value, ",\"value\":" + value);
                });
        if (read == null || read.what() == null) {
            return;
        }
        long from = (Long) read.what();
        String operation = "\"f\":\"compare-and-set\",\"key\":" + key
                + ",\"from\":" + from + ",\"to\":" + (from + 1);
        ask(process, operation, ",\"applied\":null", update.bind(from + 1, key, from),
                result -> new Told(null, ",\"applied\":" + result.wasApplied()));
    }

    void work(long process) {
        for (long number = 0; !rests; number++) {
            add(process, process * VALUES_OF_PROCESS + number);
            if (number % RAISE_ONE_OF == 0) {
                raiseRegister(process, number / RAISE_ONE_OF / RAISES_IN_TURN % REGISTERS);
            }
            pause(PAUSE_MILLIS);
        }
    }

    /** Which nodes the driver knows, and which of them answer a statement prepared already. */
    void showView() {
        long began = System.nanoTime();
        Collection<Node> known = session.getMetadata().getNodes().values();
        List<Node> answered = known.stream().filter(this::answers).toList();
        show(began, "\"known\":" + addresses(known) + ",\"answered\":" + addresses(answered));
    }

    boolean answers(Node node) {
        try {
            session.execute(select.bind(0L).setNode(node).setTimeout(ANSWER_TIME_MAX));
            return true;
        } catch (DriverException error) {
            return false;
        }
    }

    static String addresses(Collection<Node> nodes) {
        return nodes.stream()
                .map(node -> (InetSocketAddress) node.getEndPoint().resolve())
                .map(address -> "\"" + address.getAddress().getHostAddress() + "\"")
                .collect(Collectors.joining(",", "[", "]"));
    }

    static void pause(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    static void listen() {
        try {
            if (System.in.read() >= 0) {
                rests = true;
                while (System.in.read() >= 0) {}
            }
        } catch (java.io.IOException error) {
            // As at its end.
        }
        Runtime.getRuntime().halt(0);
    }

    public static void main(String[] arguments) throws InterruptedException {
        Thread listener = new Thread(Client::listen);
        listener.setDaemon(true);
        listener.start();
        List<String> addresses = List.of(arguments).subList(2, arguments.length);
        Client client = new Client(Integer.parseInt(arguments[0]), addresses);
        client.showView();
        long process = Long.parseLong(arguments[1]);
        List<Thread> threads = new ArrayList<>();
        for (int number = 0; number < THREADS; number++) {
            long own = process + number;
            threads.add(new Thread(() -> client.work(own)));
        }
        threads.forEach(Thread::start);
        for (Thread thread : threads) {
            thread.join();
        }
        while (true) {
            client.showView();
            pause(VIEW_MILLIS);
        }
    }
}
