# frozen_string_literal: true

RSpec.describe "The env" do
  Serving::WAYS.each do |way|
    context "with #{way[:mode]} and #{way[:dispatch]}" do
      include_context "each way", way

      # The envs of requests on one connection.
      def envs_of(*requests)
        serve(Rack::Lint.new(Apps::Env)) do |server|
          @server_port = server.port
          Client.open(server.port) do |client|
            @client_port = client.local_port
            return requests.map do |request|
              client.write(request)
              Apps::Env.strings(client.answer.body)
            end
          end
        end
      end

      def env_of(request) = envs_of(request).first

      it "says all of a request" do
        env = env_of("GET /a%20b?c=d&e HTTP/1.1\r\nHost: example.org:8080\r\nAccept: */*\r\n" \
                     "X-Two: 1\r\nx-two: 2\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n")
        expect(env).to eq(
          "REQUEST_METHOD" => "GET", "SCRIPT_NAME" => "", "PATH_INFO" => "/a%20b",
          "QUERY_STRING" => "c=d&e", "SERVER_NAME" => "example.org", "SERVER_PORT" => "8080",
          "SERVER_PROTOCOL" => "HTTP/1.1", "REMOTE_ADDR" => "127.0.0.1",
          "REMOTE_PORT" => @client_port.to_s, "rack.url_scheme" => "http",
          "HTTP_HOST" => "example.org:8080", "HTTP_ACCEPT" => "*/*", "HTTP_X_TWO" => "1, 2",
          "HTTP_COOKIE" => "a=b; c=d"
        )
      end

      it "names type and length of a body without HTTP_" do
        env = env_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: x/y\r\nContent-Length: 1\r\n\r\nz")
        expect(env).to include("REQUEST_METHOD" => "POST", "CONTENT_TYPE" => "x/y",
                               "CONTENT_LENGTH" => "1")
        expect(env).not_to include("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH")
      end

      it "has no field with an underscore" do
        env = env_of("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: real\r\n" \
                     "X_Forwarded_For: forged\r\nContent_Length: 5\r\n\r\n")
        expect(env["HTTP_X_FORWARDED_FOR"]).to eq "real"
        expect(env).not_to include "CONTENT_LENGTH"
      end

      it "takes the peer's address from the socket alone" do
        env = env_of("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n" \
                     "Remote-Addr: 10.0.0.1\r\n\r\n")
        expect(env["REMOTE_ADDR"]).to eq "127.0.0.1"
      end

      {
        "a" => %w[a 80], "a:" => %w[a 80], "a:81" => %w[a 81],
        "[::1]" => %w[[::1] 80], "[::1]:81" => %w[[::1] 81]
      }.each do |host, (name, port)|
        it "reads #{host.inspect} as #{name} and #{port}" do
          env = env_of("GET / HTTP/1.1\r\nHost: #{host}\r\n\r\n")
          expect(env.values_at("SERVER_NAME", "SERVER_PORT", "HTTP_HOST")).to eq [name, port, host]
        end
      end

      it "has the socket's address where there is no Host" do
        env = env_of("GET / HTTP/1.0\r\n\r\n")
        expect(env).to include("SERVER_NAME" => "127.0.0.1", "SERVER_PORT" => @server_port.to_s,
                               "SERVER_PROTOCOL" => "HTTP/1.0")
        expect(env).not_to include "HTTP_HOST"
      end

      it "lets an absolute target overrule Host" do
        env = env_of("GET http://b:81/c?d HTTP/1.1\r\nHost: a\r\n\r\n")
        expect(env).to include("SERVER_NAME" => "b", "SERVER_PORT" => "81", "HTTP_HOST" => "b:81",
                               "PATH_INFO" => "/c", "QUERY_STRING" => "d")
      end

      it "has the asterisk as path" do
        expect(env_of("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")["PATH_INFO"]).to eq "*"
      end

      # Equal blocks get their envs from a template from the third time on.
      it "differs between requests with the same fields in what differs" do
        fields = "HTTP/1.1\r\nHost: a:81\r\nAccept: x\r\n\r\n"
        envs = envs_of(*(1..4).map { "GET /#{_1}?q=#{_1} #{fields}" }, "DELETE /5 #{fields}",
                       "GET http://b/6 #{fields}", "GET /7 HTTP/1.0\r\n" \
                       "Host: a:81\r\nAccept: x\r\nConnection: keep-alive\r\n\r\n",
                       "GET /8 #{fields}")
        expect(envs.map { _1["PATH_INFO"] }).to eq %w[/1 /2 /3 /4 /5 /6 /7 /8]
        expect(envs.map { _1["QUERY_STRING"] }).to eq ["q=1", "q=2", "q=3", "q=4", "", "", "", ""]
        expect(envs.map { _1["REQUEST_METHOD"] }).to eq %w[GET] * 4 + %w[DELETE] + %w[GET] * 3
        expect(envs.map { _1["SERVER_NAME"] }).to eq %w[a] * 5 + %w[b] + %w[a] * 2
        expect(envs.map { _1["SERVER_PROTOCOL"] }).to eq ["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/1.1"]
        expect(envs.map { _1["HTTP_ACCEPT"] }).to eq %w[x] * 8
      end

      it "has each connection's port" do
        serve(Apps::Env) do |server|
          ports = Array.new(8) do
            Client.open(server.port) do |client|
              client.get("/")
              [Apps::Env.strings(client.answer.body)["REMOTE_PORT"], client.local_port.to_s]
            end
          end
          expect(ports.map(&:first)).to eq ports.map(&:last)
        end
      end

      it "does not hand one request's change of the env to the next" do
        serve(Apps::Changing) do |server|
          Client.open(server.port) do |client|
            seen = Array.new(5) do
              client.get("/")
              client.answer.body
            end
            expect(seen).to eq %w[unchanged] * 5
          end
        end
      end

      it "has fields and paths of any length" do
        long = "x" * 4000
        env = env_of("GET /#{long} HTTP/1.1\r\nHost: a\r\nX-#{long}: #{long}\r\n\r\n")
        expect(env["PATH_INFO"]).to eq "/#{long}"
        expect(env["HTTP_X_#{long.upcase}"]).to eq long
      end

      it "has bytes beyond ASCII as they came" do
        env = env_of("GET / HTTP/1.1\r\nHost: a\r\nX-A: \xC3\xBC\r\n\r\n".b)
        expect(env["HTTP_X_A"]).to eq "\xC3\xBC".b
        expect(env["HTTP_X_A"].encoding).to eq Encoding::BINARY
      end
    end
  end
end
