package acme.web;

import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.security.cert.X509Certificate;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.boot.security.autoconfigure.UserDetailsServiceAutoConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.config.http.SessionCreationPolicy;
import org.springframework.security.core.Authentication;
import org.springframework.security.core.userdetails.User;
import org.springframework.security.core.userdetails.UsernameNotFoundException;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestAttribute;
import org.springframework.web.bind.annotation.RestController;

/** A web service whose callers are known by their certificates alone. */
@SpringBootApplication(exclude = UserDetailsServiceAutoConfiguration.class) // there are no passwords
public class Web {
    public static void main(String[] arguments) {
        new SpringApplicationBuilder(Web.class).properties("spring.config.name=web").run(arguments);
    }

    @Bean
    SecurityFilterChain callers(HttpSecurity http, Revocation revocation) throws Exception {
        return http
            .x509(x509 -> x509
                .x509PrincipalExtractor(certificate -> Names.of(certificate).get(0))
                .authenticationUserDetailsService(caller -> {
                    var certificate = (X509Certificate) caller.getCredentials();
                    if (revocation.revoked(certificate)) {
                        throw new UsernameNotFoundException("revoked or expired: " + caller.getName());
                    }
                    return new User(caller.getName(), "", Names.authorities(certificate));
                }))
            // Each request is checked again: with a session, a revoked caller would stay logged in.
            .sessionManagement(session -> session.sessionCreationPolicy(SessionCreationPolicy.STATELESS))
            .authorizeHttpRequests(requests -> requests
                .requestMatchers("/item").hasAuthority("items:read")
                .requestMatchers("/watch").hasAuthority("items:watch")
                .anyRequest().denyAll())
            .build();
    }
}

@RestController
class Items {
    private final Revocation revocation;

    Items(Revocation revocation) {
        this.revocation = revocation;
    }

    @GetMapping("/item")
    String item(Authentication caller) {
        return "FAS-M6-20 480, for " + caller.getName() + "\n";
    }

    /** What is open is judged again too, before each line. */
    @GetMapping("/watch")
    void watch(@RequestAttribute("jakarta.servlet.request.X509Certificate") X509Certificate[] chain, HttpServletResponse answer)
            throws IOException, InterruptedException {
        while (!revocation.revoked(chain[0])) {
            answer.getOutputStream().println("FAS-M6-20 480");
            answer.flushBuffer();
            Thread.sleep(500);
        }
        throw new IOException("the caller's certificate is revoked or expired: " + Names.of(chain[0]));
    }
}
