import com.google.rpc.ErrorInfo;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.util.AdvancedTlsX509KeyManager;
import inventory.v1.Inventory.GetItemRequest;
import inventory.v1.Inventory.WatchStockRequest;
import inventory.v1.InventoryServiceGrpc;
import java.io.File;
import java.io.IOException;
import java.security.GeneralSecurityException;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * A client of the inventory over mutual TLS, in Java.
 *
 * <p>usage: Client HOST:PORT DIR get|watch (DIR has tls.crt, tls.key and ca.crt)
 */
public class Client {
    private static final ScheduledExecutorService reload = Executors.newSingleThreadScheduledExecutor(task -> {
        var thread = new Thread(task, "reload");
        thread.setDaemon(true);
        return thread;
    });

    public static void main(String[] arguments) throws Exception {
        ManagedChannel channel = Grpc.newChannelBuilder(arguments[0], mutualTls(new File(arguments[1]))).build();
        var inventory = InventoryServiceGrpc.newBlockingStub(channel);
        while (arguments[2].equals("watch")) {
            try {
                var levels = inventory.watchStock(WatchStockRequest.newBuilder().setSku("FAS-M6-20").build());
                levels.forEachRemaining(
                    level -> System.out.println(level.getItem().getSku() + " " + level.getItem().getAvailable()));
            } catch (StatusRuntimeException refused) {
                System.out.println("ended: " + explain(refused));
            }
            Thread.sleep(1000);
        }
        try {
            var item = inventory.withDeadlineAfter(5, TimeUnit.SECONDS)
                .getItem(GetItemRequest.newBuilder().setSku("FAS-M6-20").build()).getItem();
            System.out.println(item.getName() + " " + item.getAvailable());
        } catch (StatusRuntimeException refused) {
            System.err.println(explain(refused));
            System.exit(1);
        }
        channel.shutdownNow();
    }

    /**
     * Checks the server's certificate against ca.crt, and for the host name of the address. Its own certificate is read
     * each second, so that a new one is in use without a restart.
     */
    private static ChannelCredentials mutualTls(File directory) throws Exception {
        var tls = TlsChannelCredentials.newBuilder().trustManager(new File(directory, "ca.crt"));
        var certificate = new File(directory, "tls.crt");
        if (certificate.exists()) {
            var own = new AdvancedTlsX509KeyManager();
            var key = new File(directory, "tls.key");
            own.updateIdentityCredentials(certificate, key);
            // The reload of grpc-java runs once a minute at most, and only when both files have changed.
            reload.scheduleWithFixedDelay(() -> {
                try {
                    own.updateIdentityCredentials(certificate, key);
                } catch (IOException | GeneralSecurityException unsound) {
                    System.err.println("credentials kept: " + unsound);
                }
            }, 1, 1, TimeUnit.SECONDS);
            tls.keyManager(own);
        }
        return tls.build();
    }

    /** The code, and the reason: an identifier to decide on, where the text may change. */
    private static String explain(StatusRuntimeException refused) {
        var text = new StringBuilder(refused.getStatus().getCode().name());
        for (var detail : StatusProto.fromThrowable(refused).getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                try {
                    text.append(' ').append(detail.unpack(ErrorInfo.class).getReason());
                } catch (com.google.protobuf.InvalidProtocolBufferException malformed) {
                    // The code says enough.
                }
            }
        }
        text.append(' ').append(refused.getStatus().getDescription());
        for (Throwable cause = refused.getCause(); cause != null; cause = cause.getCause()) {
            text.append(": ").append(cause.getMessage());
        }
        return text.toString();
    }
}
