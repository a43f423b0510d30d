package acme.orders;

import com.google.rpc.ErrorInfo;
import inventory.v1.Inventory.GetItemRequest;
import inventory.v1.Inventory.WatchStockRequest;
import inventory.v1.InventoryServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.concurrent.TimeUnit;
import org.springframework.boot.ApplicationArguments;
import org.springframework.boot.ApplicationRunner;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.grpc.client.GrpcChannelFactory;

/** A client of the inventory over mutual TLS: `get` or `watch`, with the SSL bundle of orders.yaml. */
@SpringBootApplication
public class Orders implements ApplicationRunner {
    private final GrpcChannelFactory channels;

    Orders(GrpcChannelFactory channels) {
        this.channels = channels;
    }

    public static void main(String[] arguments) {
        new SpringApplicationBuilder(Orders.class).properties("spring.config.name=orders").run(arguments);
    }

    @Override
    public void run(ApplicationArguments arguments) throws Exception {
        boolean watch = arguments.getNonOptionArgs().contains("watch");
        do {
            // A channel keeps the certificate of its bundle: a new certificate needs a new channel.
            ManagedChannel channel = channels.createChannel("inventory");
            try {
                var inventory = InventoryServiceGrpc.newBlockingStub(channel);
                if (watch) {
                    inventory.watchStock(WatchStockRequest.newBuilder().setSku("FAS-M6-20").build())
                        .forEachRemaining(level -> System.out.println(level.getItem().getSku() + " " + level.getItem().getAvailable()));
                } else {
                    var item = inventory.withDeadlineAfter(10, TimeUnit.SECONDS)
                        .getItem(GetItemRequest.newBuilder().setSku("FAS-M6-20").build()).getItem();
                    System.out.println(item.getName() + " " + item.getAvailable());
                }
            } catch (StatusRuntimeException refused) {
                if (!watch) {
                    System.err.println(explain(refused));
                    System.exit(1);
                }
                System.out.println("ended: " + explain(refused));
                Thread.sleep(1000);
            } finally {
                channel.shutdownNow();
            }
        } while (watch);
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
