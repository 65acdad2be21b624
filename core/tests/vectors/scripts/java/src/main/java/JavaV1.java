import com.amazonaws.DefaultRequest;
import com.amazonaws.auth.AWS4Signer;
import com.amazonaws.auth.AWSCredentials;
import com.amazonaws.auth.AWSStaticCredentialsProvider;
import com.amazonaws.auth.BasicAWSCredentials;
import com.amazonaws.auth.BasicSessionCredentials;
import com.amazonaws.auth.presign.PresignerFacade;
import com.amazonaws.auth.presign.PresignerParams;
import com.amazonaws.http.HttpMethodName;
import com.amazonaws.auth.Signer;
import com.amazonaws.internal.auth.SignerProvider;
import com.amazonaws.internal.auth.SignerProviderContext;
import com.amazonaws.services.securitytoken.model.GetCallerIdentityRequest;
import com.amazonaws.util.VersionInfoUtils;
import java.net.URI;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Base64;
import java.util.Date;

/** AWS SDK for Java v1: DefaultRequest and PresignerFacade, as in the answers to aws-sdk-java#1795. */
public final class JavaV1 {
    public static void main(String[] args) throws Exception {
        String session = System.getenv("AWS_SESSION_TOKEN");
        String key = System.getenv("AWS_ACCESS_KEY_ID");
        String secret = System.getenv("AWS_SECRET_ACCESS_KEY");
        AWSCredentials credentials = session == null
                ? new BasicAWSCredentials(key, secret)
                : new BasicSessionCredentials(key, secret, session);
        DefaultRequest<GetCallerIdentityRequest> request = new DefaultRequest<>(new GetCallerIdentityRequest(), "sts");
        request.setResourcePath("/");
        request.setEndpoint(new URI("https", System.getenv("STS_HOST"), null, null));
        request.setHttpMethod(HttpMethodName.GET);
        request.addParameter("Action", "GetCallerIdentity");
        request.addParameter("Version", "2011-06-15");
        request.addHeader("x-k8s-aws-id", System.getenv("CLUSTER_ID"));
        AWS4Signer signer = new AWS4Signer();
        signer.setServiceName("sts");
        signer.setRegionName(System.getenv("AWS_REGION"));
        Date at = Date.from(Instant.parse(System.getenv("SIGN_AT")));
        signer.setOverrideDate(at);
        PresignerParams parameters = new PresignerParams(null, new AWSStaticCredentialsProvider(credentials),
                new SignerProvider() {
                    @Override
                    public Signer getSigner(SignerProviderContext context) {
                        return signer;
                    }
                }, at::getTime);
        URL url = new PresignerFacade(parameters).presign(request, new Date(at.getTime() + 60_000));
        Files.writeString(Path.of(System.getenv("VERSION_OUT")), VersionInfoUtils.getVersion());
        System.out.println("k8s-aws-v1." + Base64.getUrlEncoder().withoutPadding().encodeToString(url.toString().getBytes(StandardCharsets.UTF_8)));
    }
}
