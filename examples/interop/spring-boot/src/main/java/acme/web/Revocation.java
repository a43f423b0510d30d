package acme.web;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509CRL;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.Collection;
import java.util.Date;
import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.scheduling.annotation.EnableScheduling;
import org.springframework.scheduling.annotation.Scheduled;
import org.springframework.stereotype.Component;

/**
 * The revocation lists in crl.pem, read again each second. An SSL bundle has none, and Tomcat verifies a caller once for each
 * connection, or not even that when a session is resumed, so that who is revoked would stay.
 */
@Component
@EnableScheduling
class Revocation {
    private static final Logger log = LoggerFactory.getLogger(Revocation.class);

    private final Path directory;
    private byte[] read = {};
    private volatile List<X509CRL> lists = List.of();

    Revocation(@Value("${web.directory}") Path directory) {
        this.directory = directory;
        update();
    }

    /** Revoked, or expired since its holder connected. */
    boolean revoked(X509Certificate certificate) {
        return certificate.getNotAfter().before(new Date()) || lists.stream().anyMatch(list -> list.getIssuerX500Principal().equals(certificate.getIssuerX500Principal())
            && list.isRevoked(certificate));
    }

    @Scheduled(fixedDelay = 1000)
    final void update() {
        var file = directory.resolve("crl.pem");
        try {
            if (lists.isEmpty() && Files.notExists(file)) {
                return; // nothing was ever revoked
            }
            var bytes = Files.readAllBytes(file);
            if (Arrays.equals(bytes, read)) {
                return;
            }
            var factory = CertificateFactory.getInstance("X.509");
            var chain = new ByteArrayInputStream(Files.readAllBytes(directory.resolve("tls.crt")));
            var authorities = factory.generateCertificates(chain);
            var next = factory.generateCRLs(new ByteArrayInputStream(bytes)).stream().map(X509CRL.class::cast).toList();
            for (X509CRL list : next) {
                signed(list, authorities);
            }
            lists = next;
            read = bytes;
        } catch (IOException | GeneralSecurityException unsound) {
            // The last good lists stay in use, so revoked callers stay revoked.
            log.error("revocation lists kept: {}", unsound.toString());
        }
    }

    /** By the authority that issued this service's own certificate too. */
    private static void signed(X509CRL list, Collection<? extends Certificate> authorities) throws GeneralSecurityException {
        for (Certificate one : authorities) {
            var authority = (X509Certificate) one;
            if (authority.getSubjectX500Principal().equals(list.getIssuerX500Principal())) {
                list.verify(authority.getPublicKey());
                return;
            }
        }
        throw new GeneralSecurityException("no authority of the name " + list.getIssuerX500Principal());
    }
}
