# frozen_string_literal: true

require_relative "../lib/kino_bench"
require_relative "../lib/kino_bench/options"

RSpec.describe KinoBench::Options do
  def options(line) = described_class.new(line.split)

  it "has defaults" do
    expect(options("")).to have_attributes(rounds: 5, connections: 64, pipeline: 1, idle: 0,
                                           path: "/plaintext", servers: include("kino", "puma"))
  end

  it "reads what it is told" do
    expect(options("--server a --server b=c --rounds 3 --pin 0-1:2,3 --pipeline 16 --idle 9"))
      .to have_attributes(servers: %w[a b=c], rounds: 3, server_cores: "0-1", wrk_cores: "2,3",
                          pipeline: 16, idle: 9)
  end

  {
    "--rounds 0" => /--rounds must be at least 1/,
    "--rounds many" => /invalid argument: --rounds many/,
    "--connections 2 --threads 3" => /--connections must not be fewer than --threads/,
    "--idle -1" => /--idle must not be negative/,
    "--idle 99999999" => /together is more than \d+, .* the hard limit of \d+ descriptors leaves/,
    "--path plaintext" => %r{--path must begin with /},
    "--pin 0" => /invalid argument: --pin 0/,
    "--json /nowhere/x" => /--json cannot be written: No such file/,
    "--server a --server a=b" => /server "a" is given twice/,
    "--nonsense" => /invalid option: --nonsense/,
    "puma" => /unexpected argument "puma"/
  }.each do |line, message|
    it "refuses #{line} in one line" do
      expect { options(line) }.to raise_error(KinoBench::Failure) { |error|
        expect(error.message).to match(message)
        expect(error.message.lines.size).to eq 1
      }
    end
  end
end
