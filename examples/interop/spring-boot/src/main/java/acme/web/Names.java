package acme.web;

import java.security.cert.CertificateParsingException;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import javax.security.auth.x500.X500Principal;
import org.springframework.security.core.GrantedAuthority;
import org.springframework.security.core.authority.AuthorityUtils;
import org.springframework.security.authentication.BadCredentialsException;

/** Who a verified certificate says that it is, and what that name may do. Names are compared whole, never by a pattern. */
class Names {
    private static final Map<String, List<String>> AUTHORITIES = Map.of(
        "URI:spiffe://acme.test/orders", List.of("items:read", "items:watch"),
        "DNS:billing.acme.test", List.of("items:read"),
        // A subject as RFC 2253 writes it: the most specific part first.
        "CN=mainframe,OU=batch,O=Acme,C=US", List.of("items:read"));

    private static final int DNS = 2;
    private static final int URI = 6;

    /** Its URIs if it has any, else its DNS names, else its subject. */
    static List<String> of(X509Certificate certificate) {
        for (int kind : new int[] {URI, DNS}) {
            var names = alternativeNames(certificate, kind);
            if (!names.isEmpty()) {
                return names;
            }
        }
        return List.of(certificate.getSubjectX500Principal().getName(X500Principal.RFC2253));
    }

    static Collection<? extends GrantedAuthority> authorities(X509Certificate certificate) {
        var all = of(certificate).stream().flatMap(name -> AUTHORITIES.getOrDefault(name, List.of()).stream());
        return AuthorityUtils.createAuthorityList(all.toList());
    }

    private static List<String> alternativeNames(X509Certificate certificate, int kind) {
        try {
            var names = new ArrayList<String>();
            var all = certificate.getSubjectAlternativeNames();
            for (List<?> name : all == null ? List.<List<?>>of() : all) {
                if (name.get(0).equals(kind)) {
                    names.add((kind == URI ? "URI:" : "DNS:") + name.get(1));
                }
            }
            return names;
        } catch (CertificateParsingException malformed) {
            throw new BadCredentialsException("names that cannot be read", malformed);
        }
    }
}
